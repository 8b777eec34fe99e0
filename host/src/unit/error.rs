//! Why a unit could not be started, looked at or ended.

use std::{io, path::PathBuf, time::Duration};

use nexus_model::{ErrorKind, ExitStatus};
use serde::{Deserialize, Serialize};

use super::{InvalidLaunch, ProgramRole};
use crate::process::ProcessError;

/// Why a keeper did not start what it was asked to. It travels from the keeper as text, so it has no source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum StartFailure {
    /// The kernel gives this user no namespaces.
    #[error(
        "this machine does not let users make namespaces ({reason}), so a VMM can't be confined: allow it with \
         `sysctl user.max_user_namespaces=15000`, `kernel.unprivileged_userns_clone=1` or \
         `kernel.apparmor_restrict_unprivileged_userns=0`, whichever it has"
    )]
    Namespaces {
        /// What the kernel said.
        reason: String,
    },
    /// The sandbox could not be built.
    #[error("cannot {step}: {reason}")]
    Sandbox {
        /// What was being done.
        step: String,
        /// What the kernel said.
        reason: String,
    },
    /// A program could not be started.
    #[error("cannot start {role} {}: {reason}", program.display())]
    Program {
        /// Which.
        role: ProgramRole,
        /// Its path.
        program: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// A program ended before the next one could start.
    #[error("{role} {status} while it was starting")]
    Ended {
        /// Which.
        role: ProgramRole,
        /// How.
        status: ExitStatus,
    },
    /// A program did not listen in time.
    #[error("{role} does not listen on {} after {} s", socket.display(), after.as_secs())]
    NotReady {
        /// Which.
        role: ProgramRole,
        /// Where it should.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The keeper itself could not do what it needs: a file, a descriptor, a process.
    #[error("the keeper cannot {step}: {reason}")]
    Keeper {
        /// What was being done.
        step: String,
        /// What the kernel said.
        reason: String,
    },
}

/// A unit could not be started, looked at or ended.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// What it should start can't be.
    #[error("unit `{name}` cannot be started as asked")]
    Invalid {
        /// The unit.
        name: String,
        /// Why.
        #[source]
        source: InvalidLaunch,
    },
    /// A name that no unit can have.
    #[error("`{0}` is no unit's name: use letters, digits and hyphens")]
    Name(String),
    /// It was never started, or was collected.
    #[error("there is no unit `{0}`")]
    Absent(String),
    /// It runs.
    #[error("unit `{0}` still runs: stop its VM first")]
    Running(String),
    /// The keeper did not start it. Nothing is left of it.
    #[error("unit `{name}` did not start")]
    Start {
        /// The unit.
        name: String,
        /// Why.
        #[source]
        source: StartFailure,
    },
    /// The keeper ended, or was never started, without saying why. Nothing is left of it.
    #[error("the keeper of unit `{name}` {what}")]
    Keeper {
        /// The unit.
        name: String,
        /// What it did.
        what: String,
    },
    /// The unit did not do something in time.
    #[error("unit `{name}` did not {what} within {} s", after.as_secs())]
    Timeout {
        /// The unit.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// A file of the unit could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The systemd user manager refused.
    #[error("the systemd user manager cannot {action} unit `{name}`")]
    Manager {
        /// What was asked.
        action: &'static str,
        /// The unit.
        name: String,
        /// Why.
        #[source]
        source: Box<zbus::Error>,
    },
    /// A process could not be looked at.
    #[error("a process of unit `{name}` cannot be looked at")]
    Process {
        /// The unit.
        name: String,
        /// Why.
        #[source]
        source: ProcessError,
    },
}

impl UnitError {
    /// How a caller should see it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { source: StartFailure::Namespaces { .. }, .. } => ErrorKind::HostUnsupported,
            Self::Start { .. } | Self::Keeper { .. } => ErrorKind::HypervisorFailed,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourcesExhausted,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
                _ => ErrorKind::HypervisorFailed,
            },
            Self::Manager { .. } => ErrorKind::HypervisorFailed,
            Self::Absent(_) => ErrorKind::NotFound,
            Self::Running(_) => ErrorKind::InvalidState,
            Self::Invalid { .. } | Self::Name(_) | Self::Process { .. } => ErrorKind::Internal,
        }
    }
}
