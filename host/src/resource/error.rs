//! Why resources could not be listed or removed.

use std::{io, path::PathBuf};

use nexus_model::ErrorKind;

use crate::{process::ProcessError, storage::StorageError, unit::UnitError};

/// A resource could not be listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
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
    /// What is there now is not what was listed, or it might be somebody else's.
    #[error("{name} stays: {why}")]
    Stays {
        /// What.
        name: String,
        /// Why it is not removed.
        why: String,
    },
    /// A process did not end.
    #[error("process {pid} does not end, though it was killed")]
    Undead {
        /// Which.
        pid: u32,
    },
    /// A unit could not be listed or ended.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A process could not be looked at or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file could not be removed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ResourceError {
    /// The kind that a caller can tell apart.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Stays { .. } => ErrorKind::InvalidState,
            Self::Unit(error) => error.kind(),
            Self::Storage(error) => error.kind(),
            Self::Undead { .. } => ErrorKind::Timeout,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            Self::Io { .. } | Self::Process(_) => ErrorKind::StorageFailed,
        }
    }

    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
