//! What a VM is made of besides its disk: kernels and the like.

use crate::kebab::words;

words! {
    /// What an asset is for.
    pub enum AssetKind {
        /// A guest kernel: a bzImage or an ELF `vmlinux`.
        Kernel = "kernel",
        /// An initial RAM disk. `initrd-<version>` is used with `kernel-<version>` unless a VM names another.
        Initrd = "initrd",
    }
}

words! {
    /// How an asset's content was checked.
    pub enum Verification {
        /// Not checked against anything: the digest is of what was found.
        None = "none",
        /// Against a digest that the importer gave.
        Digest = "digest",
    }
}
