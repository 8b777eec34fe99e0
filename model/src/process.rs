//! Processes that are not our children.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What makes a process that process, so that another one that got the same pid is never taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/<pid>/stat`, see `proc_pid_stat(5)`.
    pub start_ticks: u64,
    /// The boot that it runs in: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Inode of its pidfd, unique for a boot where the kernel has pidfs (6.9 and later).
    pub pidfd_inode: Option<u64>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It is gone and nobody could say how.
    Unknown,
}

impl ExitStatus {
    /// Whether it exited with code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// The code as a shell would show it: the exit code, 128 and the signal's number, or -1 when nobody knows.
    #[must_use]
    pub const fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::Unknown => -1,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::Unknown => f.write_str("ended in an unknown way"),
        }
    }
}
