//! What every way of keeping workspaces can do, and the choice of one.

use std::{
    fmt,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nexus_model::BackendKind;
use nix::sys::statvfs::statvfs;

use super::{
    Draft, Progress, StorageError, Usage,
    btrfs::Btrfs,
    draft::{lock, parent_of, set_aside, sweep, sync},
    erase::erase,
    plain::Plain,
};

/// Keeps images and workspaces below one folder. Paths are those of an image's or a workspace's own folder; the caller
/// chooses them, on the file system of the root.
pub trait WorkspaceBackend: fmt::Debug + Send + Sync {
    /// Which one this is.
    fn kind(&self) -> BackendKind;

    /// The folder that it was found for.
    fn root(&self) -> &Path;

    /// Begins a master that will be at `destination`, whose parent is made if it is not there. Its disk is written to
    /// [`Draft::disk`].
    ///
    /// # Errors
    /// When something is there already, or no folder can be made beside it.
    fn create_master(&self, destination: &Path) -> Result<Draft, StorageError>;

    /// Syncs a master, makes it read-only and gives it its name, in this order.
    ///
    /// # Errors
    /// When the disk is full or broken, or something took the name. The draft is gone then.
    fn seal_master(&self, master: Draft) -> Result<(), StorageError>;

    /// Makes a writable workspace with the content of `master`. The progress counts the disk's apparent bytes.
    ///
    /// # Errors
    /// When there is no such master, something is at `workspace` already, the disk is full, or somebody calls it off.
    fn snapshot(&self, master: &Path, workspace: &Path, progress: &Progress) -> Result<(), StorageError>;

    /// Removes an image or a workspace, whichever backend made it and however far that got. Nothing there is success.
    ///
    /// # Errors
    /// When the system refuses; what is left then has a temporary name and is found by [`sweep`](Self::sweep).
    fn remove(&self, path: &Path) -> Result<(), StorageError> {
        remove(path)
    }

    /// What an image or a workspace costs.
    ///
    /// # Errors
    /// When it is not there or can't be read.
    fn usage(&self, path: &Path) -> Result<Usage, StorageError> {
        Usage::of(path)
    }

    /// Bytes that an ordinary user can still write below the root.
    ///
    /// # Errors
    /// When the root is gone.
    fn free_bytes(&self) -> Result<u64, StorageError> {
        let root = self.root();
        let statistics = statvfs(root).map_err(StorageError::io("look at the file system of", root))?;
        Ok(statistics.blocks_available().saturating_mul(statistics.fragment_size()))
    }

    /// Removes what was being made or removed in `folder` when its process ended, and says what that was. What some
    /// process still works on stays. A folder that is not there has nothing to sweep.
    ///
    /// # Errors
    /// When something can't be removed.
    fn sweep(&self, folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
        sweep(folder)
    }
}

/// Moves what is at `path` aside, and removes it there.
pub(crate) fn remove(path: &Path) -> Result<(), StorageError> {
    let Some(aside) = set_aside(path)? else { return Ok(()) };
    // So that nobody takes it for something that was left.
    let _lock = lock(&aside);
    erase(&aside).map_err(StorageError::io("remove", path))?;
    sync(parent_of(path))
}

/// Finds the backend for `root`, which is made if it is not there: the wanted one, or the best one that works when tried
/// with real files (`btrfs`, then `reflink`, then `copy`).
///
/// # Errors
/// [`StorageError::Unsupported`] when the wanted one does not work there; another error when nothing can be written there.
pub fn detect(root: &Path, wanted: Option<BackendKind>) -> Result<Arc<dyn WorkspaceBackend>, StorageError> {
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(StorageError::io("create the folder", root))?;
    let found = |kind| -> Result<Arc<dyn WorkspaceBackend>, StorageError> {
        Ok(match kind {
            BackendKind::Btrfs => Arc::new(Btrfs::new(root)?),
            BackendKind::Reflink => Arc::new(Plain::reflink(root)?),
            BackendKind::Copy => Arc::new(Plain::copy(root)),
        })
    };
    if let Some(kind) = wanted {
        return found(kind);
    }
    for kind in [BackendKind::Btrfs, BackendKind::Reflink] {
        match found(kind) {
            Err(StorageError::Unsupported { kind, reason, .. }) => {
                tracing::debug!(%kind, root = %root.display(), reason, "not this storage backend");
            }
            other => return other,
        }
    }
    found(BackendKind::Copy)
}
