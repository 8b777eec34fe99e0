//! Copy-on-write disks.

use crate::kebab::words;

words! {
    /// How workspaces are kept on the host's file system.
    pub enum BackendKind {
        /// Subvolumes: an image is a read-only one, a workspace a writable snapshot.
        Btrfs = "btrfs",
        /// Files that share extents (`FICLONE`).
        Reflink = "reflink",
        /// Sparse copies, on any file system.
        Copy = "copy",
    }
}

words! {
    /// Where a workspace is in its life.
    pub enum WorkspaceState {
        /// Being made.
        Creating = "creating",
        /// Whole, and attached to no running VM's disk.
        Ready = "ready",
        /// The disk of a VM.
        Attached = "attached",
        /// Its files are not where they were.
        Missing = "missing",
        /// It could not be made or removed.
        Failed = "failed",
        /// Being removed.
        Removing = "removing",
    }
}
