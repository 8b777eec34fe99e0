//! Disks of images and workspaces on the host's file system.
//!
//! An image (a *master*) and a workspace are folders that hold one raw disk, [`DISK`]. How a workspace comes from its
//! master without copying is the business of a [`WorkspaceBackend`]; [`detect`] finds the best one that a folder can
//! have. Everything lands whole or not at all: it is made under a temporary sibling name, synced, and renamed; what a
//! kill leaves behind is found by [`WorkspaceBackend::sweep`].
//!
//! All of this blocks: call it where blocking is allowed, with a [`Progress`] to watch and to cancel by.

mod backend;
mod btrfs;
mod digest;
mod draft;
mod erase;
mod error;
mod extents;
mod plain;
mod progress;
mod sparse;
mod usage;

pub use backend::{WorkspaceBackend, detect};
pub use digest::{Digest, digest_of};
pub use draft::Draft;
pub use error::StorageError;
pub use progress::{Cancelled, Progress};
pub use usage::Usage;

pub(crate) use backend::remove;
pub(crate) use draft::{create_private, create_sized, is_draft, is_worked_on, remove_draft, seal_files, sweep};
pub(crate) use sparse::copy_file;

/// File name of the raw disk in the folder of an image or a workspace.
pub const DISK: &str = "disk.ext4";
