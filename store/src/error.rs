//! What can go wrong with rows.

use std::fmt;

use nexus_model::{AssetKind, ErrorKind, vm::VmState};
use rusqlite::ErrorCode;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noun {
    /// A VM.
    Vm,
    /// A workspace.
    Workspace,
    /// An image.
    Image,
    /// An asset, of this kind where that is known.
    Asset(Option<AssetKind>),
    /// A job.
    Job,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm => f.write_str("VM"),
            Self::Workspace => f.write_str("workspace"),
            Self::Image => f.write_str("image"),
            Self::Asset(Some(kind)) => kind.fmt(f),
            Self::Asset(None) => f.write_str("asset"),
            Self::Job => f.write_str("job"),
        }
    }
}

/// Why an operation did not happen. None of it did: each is one transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("the name `{name}` is taken by another {noun} already: choose another one")]
    AlreadyExists {
        /// What has the name.
        noun: Noun,
        /// The name.
        name: String,
    },
    /// There is no such row.
    #[error("there is no {noun} `{name}`")]
    NotFound {
        /// What was looked for.
        noun: Noun,
        /// Its name or id.
        name: String,
    },
    /// Something else needs the row as it is.
    #[error("the {noun} `{name}` is used by {}: detach or remove that first", .by.join(", "))]
    InUse {
        /// What is used.
        noun: Noun,
        /// Its name.
        name: String,
        /// Who uses it: the noun and the name of each.
        by: Vec<String>,
    },
    /// It is being made, is being removed, or failed.
    #[error("the {noun} `{name}` is {state}, but must be {needed}")]
    NotReady {
        /// What was asked for.
        noun: Noun,
        /// Its name.
        name: String,
        /// The state that it is in.
        state: String,
        /// The state that is needed, in words.
        needed: &'static str,
    },
    /// Every vsock context id has been given out.
    #[error("every vsock context id is taken: remove a VM")]
    CidsExhausted,
    /// Every job number has been given out.
    #[error("every job number has been used: start with a new state folder")]
    JobsExhausted,
    /// The writer is an incarnation that another one has replaced.
    #[error("the actor of VM `{name}` was replaced: it wrote as generation {generation}, {current} has the row")]
    Overtaken {
        /// The VM's name.
        name: String,
        /// The writer's generation.
        generation: u64,
        /// The row's generation.
        current: u64,
    },
    /// The state and the history entry of an update don't belong together.
    #[error("VM `{name}` goes from {from} to {to}, which is not what its history entry says")]
    Untold {
        /// The VM's name.
        name: String,
        /// The stored state.
        from: VmState,
        /// The new state.
        to: VmState,
    },
    /// The disk, or the quota, is full.
    #[error("the disk that holds the database is full: make room there")]
    DiskFull {
        /// SQLite's own error.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process has kept the database locked for longer than the store waits.
    #[error("another process keeps the database locked: close whatever has nexus.db open")]
    Locked {
        /// SQLite's own error.
        #[source]
        source: rusqlite::Error,
    },
    /// A rule of the schema was broken.
    #[error("the database refused to {action}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// SQLite's own error.
        #[source]
        source: rusqlite::Error,
    },
    /// A row holds what this program does not understand.
    #[error("a row in the database makes no sense while trying to {action}")]
    Unreadable {
        /// What was being done.
        action: &'static str,
        /// The conversion that failed.
        #[source]
        source: rusqlite::Error,
    },
    /// Reading or writing the database failed.
    #[error("the database failed to {action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// SQLite's own error.
        #[source]
        source: rusqlite::Error,
    },
    /// The database's files could not be looked at.
    #[error("the size of the database's files can't be read")]
    Size {
        /// The system's own error.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What kind of failure a caller is told of.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::InUse { .. } => ErrorKind::InUse,
            Self::NotReady { .. } => ErrorKind::InvalidState,
            Self::CidsExhausted | Self::JobsExhausted | Self::DiskFull { .. } => ErrorKind::ResourcesExhausted,
            Self::Overtaken { .. } | Self::Untold { .. } | Self::Refused { .. } => ErrorKind::Internal,
            Self::Locked { .. } | Self::Unreadable { .. } | Self::Database { .. } | Self::Size { .. } => {
                ErrorKind::StorageFailed
            }
        }
    }

    /// Names what was being done, and sorts SQLite's errors into those that can be told apart.
    pub(crate) fn doing(action: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            _ if is_disk_full(&source) => Self::DiskFull { source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { source },
            Some(ErrorCode::ConstraintViolation) => Self::Refused { action, source },
            Some(_) => Self::Database { action, source },
            None => match source {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..) => Self::Unreadable { action, source },
                _ => Self::Database { action, source },
            },
        }
    }
}

/// Whether SQLite ran out of disk. It has an error of its own for the log's index, which it makes room for ahead of use.
pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
