//! What goes wrong with disks.

use std::{
    io,
    path::{Path, PathBuf},
};

use nexus_model::{BackendKind, ErrorKind};

use super::Cancelled;

/// A failure of storage. Nothing half-made stays under a final name after one.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done, as in "cannot … this path".
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file system is full, or the quota is.
    #[error("no space left to {action} {}: free some space on that file system and try again", path.display())]
    NoSpace {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Full disk or quota.
        #[source]
        source: io::Error,
    },
    /// Something is there already.
    #[error("{} exists already: move it away, or choose another name", .0.display())]
    AlreadyExists(PathBuf),
    /// It is not where it was.
    #[error("{} is not there: put it back, or remove what it belonged to", .0.display())]
    Missing(PathBuf),
    /// The configured backend can't be had here.
    #[error("{kind} storage cannot be had in {}: {reason}", root.display())]
    Unsupported {
        /// The backend that was asked for.
        kind: BackendKind,
        /// Where.
        root: PathBuf,
        /// Why not, in words.
        reason: String,
    },
    /// Blocks can't be shared between two file systems.
    #[error(
        "{} and {} are on different file systems, which share no blocks: keep images and workspaces on one, or set \
         the storage backend to copy",
        master.display(), workspace.display()
    )]
    DifferentFileSystems {
        /// The master image.
        master: PathBuf,
        /// The workspace that was to be made.
        workspace: PathBuf,
    },
    /// Somebody called it off.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl StorageError {
    /// The kind that a caller can tell apart.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::StorageFailed,
            },
            Self::NoSpace { .. } => ErrorKind::ResourcesExhausted,
            Self::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Self::Missing(_) => ErrorKind::NotFound,
            Self::Unsupported { .. } => ErrorKind::HostUnsupported,
            Self::DifferentFileSystems { .. } => ErrorKind::StorageFailed,
            Self::Cancelled(_) => ErrorKind::Cancelled,
        }
    }

    /// For `map_err`: what was done to which path.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| {
            let source = source.into();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { action, path, source },
                _ => Self::Io { action, path, source },
            }
        }
    }
}
