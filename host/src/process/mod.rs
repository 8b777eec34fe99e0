//! Processes that are not our children: who they are ([`identify`], [`executable`], [`unit()`]), whether they are
//! about to end ([`is_ending`]), and the watch for that ([`ProcessWatch`]).

mod ending;
mod identity;
mod membership;
mod sleep;
pub(crate) mod stat;
mod watch;

pub use ending::is_ending;
pub use identity::{boot_id, identify};
pub use membership::{executable, unit};
pub use nix::sys::signal::Signal;
pub use sleep::slept;
pub use watch::ProcessWatch;

use std::{io, path::PathBuf};

/// A process could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A file of `/proc` could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `/proc/<pid>/stat` is not what `proc_pid_stat(5)` says.
    #[error("/proc/{pid}/stat has no start time")]
    Stat {
        /// Whose.
        pid: u32,
    },
    /// No descriptor for a process could be had.
    #[error("cannot open process {pid}")]
    Open {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The end of a process could not be waited for.
    #[error("cannot wait for process {pid}")]
    Wait {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A signal could not be sent.
    #[error("cannot send {signal} to process {pid}")]
    Signal {
        /// To which.
        pid: u32,
        /// What.
        signal: Signal,
        /// Why.
        #[source]
        source: io::Error,
    },
}
