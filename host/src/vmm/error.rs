use std::{io, path::PathBuf, time::Duration};

use nexus_model::{ErrorKind, vm::VmmKind};

use crate::process::ProcessError;

/// A VMM could not be had, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// This machine does not have what the VMM needs.
    #[error("{kind} is not available: {reason}")]
    Unavailable {
        /// The VMM.
        kind: VmmKind,
        /// What is missing, and how to get it.
        reason: String,
    },
    /// This machine has no VMM at all.
    #[error("no VMM is available on this machine: {reasons}")]
    NoVmm {
        /// What each one misses.
        reasons: String,
    },
    /// The configuration does not allow the VMM.
    #[error(
        "VMs by {kind} do not isolate the guest: set `vmm.allow-process` in nexus.yaml if you want them all the same"
    )]
    NotAllowed {
        /// The VMM.
        kind: VmmKind,
    },
    /// The plan asks for what the VMM can't do.
    #[error("{kind} cannot run this machine: {reason}")]
    Unsupported {
        /// The VMM.
        kind: VmmKind,
        /// What it can't do.
        reason: String,
    },
    /// A file of the machine could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The VMM's API could not be reached in time.
    #[error("the VMM did not accept a connection on {} within {} s, see `nexusctl vm logs`", socket.display(), waited.as_secs())]
    Unreachable {
        /// Its API socket.
        socket: PathBuf,
        /// How long it was tried.
        waited: Duration,
        /// Why the last try failed.
        source: io::Error,
    },
    /// The VMM's API broke off, or answered nothing that its protocol has.
    #[error("the VMM's API failed on {request}")]
    Api {
        /// What was asked.
        request: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The VMM did not answer in time.
    #[error("the VMM did not answer {request} within {} s: try again, or end it with `nexusctl vm kill`", waited.as_secs())]
    Timeout {
        /// What was asked.
        request: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The VMM said no.
    #[error("the VMM refused {request}: {message}")]
    Rejected {
        /// What was asked.
        request: String,
        /// The VMM's own words.
        message: String,
    },
    /// The virtual CPUs stand still and can't go on.
    #[error(
        "the VMM's machine is in state `{status}`, from which it cannot go on: end it with `nexusctl vm kill` and start it again"
    )]
    Broken {
        /// The VMM's own word for it.
        status: String,
    },
    /// The process could not be looked at or signalled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process has ended.
    #[error("process {pid} has ended")]
    Gone {
        /// Its id, when it lived.
        pid: u32,
    },
}

impl VmmError {
    /// The kind of failure, as the bus names it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } | Self::NoVmm { .. } => ErrorKind::HostUnsupported,
            Self::NotAllowed { .. } => ErrorKind::PermissionDenied,
            Self::Unsupported { .. } => ErrorKind::InvalidArgs,
            Self::File { .. }
            | Self::Unreachable { .. }
            | Self::Api { .. }
            | Self::Rejected { .. }
            | Self::Broken { .. }
            | Self::Process(_)
            | Self::Gone { .. } => ErrorKind::HypervisorFailed,
            Self::Timeout { .. } => ErrorKind::Timeout,
        }
    }
}
