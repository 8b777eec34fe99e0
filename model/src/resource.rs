//! What there can be on a machine under Nexus' names.

use crate::kebab::words;

words! {
    /// What a resource of the host is. The order is that in which resources go: what runs before what it runs in.
    pub enum ResourceKind {
        /// A transient service of the systemd user manager.
        Unit = "unit",
        /// A keeper of a VM's processes that no unit holds, and with it those processes.
        Process = "process",
        /// A VM's runtime folder: sockets, and the records of a run.
        Runtime = "runtime",
        /// A VM's folder of consoles.
        Console = "console",
        /// An asset's folder.
        Asset = "asset",
        /// What is being made or removed, and was left so.
        Draft = "draft",
        /// A workspace's folder or subvolume, with its disk.
        Workspace = "workspace",
        /// An image's folder or subvolume, with its disk.
        Image = "image",
        /// A mount below Nexus' folders.
        Mount = "mount",
        /// A network device that names this Nexus.
        Device = "device",
        /// Anything else in Nexus' folders.
        File = "file",
    }
}
