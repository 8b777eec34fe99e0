//! A VM as the outside sees it.

use std::{path::PathBuf, time::Duration};

use nexus_host::vmm::PREVIOUS_CONSOLE;
use nexus_model::{
    ArtifactName, ExitStatus, Id, Name, Timestamp,
    restart::RestartPolicy,
    vm::{Desired, Lifecycle, Role, VmmKind},
};

use super::{GuestSnapshot, JobId};

/// A VM at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct VmSnapshot {
    /// Never used twice.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// One line of free text.
    pub label: String,
    /// What it is for.
    pub role: Role,
    /// The user's own words for it.
    pub tags: Vec<String>,
    /// State, reason and since when.
    pub lifecycle: Lifecycle,
    /// What is under way.
    pub job: Option<JobId>,
    /// What the agent said, while it is connected.
    pub guest: Option<GuestSnapshot>,
    /// Whether it goes once it has stopped.
    pub ephemeral: bool,
    /// What somebody wants of it.
    pub desired: Desired,
    /// Whether it starts with the daemon.
    pub autostart: bool,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// What runs it, or ran it last; none before the first start.
    pub vmm: Option<VmmKind>,
    /// Whether that isolates: false for a plain process.
    pub isolated: bool,
    /// The image that its disk came from.
    pub image: Option<ArtifactName>,
    /// The kernel asset that it asked for, or last started with.
    pub kernel: Option<ArtifactName>,
    /// The kernels and initrds that can't go before it does: those that its specification names, the initrd that it gets with
    /// the kernel that it names, and while there is a VMM, those that run. Sorted.
    pub assets: Vec<ArtifactName>,
    /// Its disks, the root first.
    pub workspaces: Vec<Name>,
    /// The numbers of its connections.
    pub connections: Vec<u32>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Its vsock context id.
    pub cid: u32,
    /// Process id of the VMM, 0 when there is none.
    pub leader: u32,
    /// The systemd unit that holds it; empty without a user manager.
    pub unit: String,
    /// systemd's invocation id of that unit.
    pub invocation_id: String,
    /// How its VMM ended last.
    pub exit: Option<ExitStatus>,
    /// One sentence about that end, with the VMM's own words where it left any.
    pub exit_reason: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was started last.
    pub started_at: Timestamp,
    /// When it ended last.
    pub stopped_at: Timestamp,
    /// From the request to the VMM running.
    pub boot_duration: Duration,
    /// From the request to the agent's answer.
    pub ready_duration: Duration,
    /// Where the VMM's own API listens.
    pub api_socket: Option<PathBuf>,
    /// Where its vsock is reached.
    pub vsock_socket: Option<PathBuf>,
    /// Where its console is written to.
    pub console_log: PathBuf,
}

impl VmSnapshot {
    /// Where the console of the run before is, if there is one.
    #[must_use]
    pub fn previous_console_log(&self) -> PathBuf {
        self.console_log.with_file_name(PREVIOUS_CONSOLE)
    }
}
