//! Where a VM is in its life, and the transitions that are legal.
//!
//! ```text
//! created → starting → running ⇄ paused → stopping → stopped
//!              │          │        │          │
//!              └──────────┴────────┴──────────┴→ crashed (the VMM died unasked) · failed (gave up, or could not start)
//! ```

use serde::{Deserialize, Serialize};

use crate::{Timestamp, kebab::words};

words! {
    /// State of a VM.
    pub enum VmState {
        /// Never started.
        Created = "created",
        /// Its VMM is being started.
        Starting = "starting",
        /// Its VMM runs, and so do its virtual CPUs.
        Running = "running",
        /// Its VMM runs; its virtual CPUs do not.
        Paused = "paused",
        /// Being stopped.
        Stopping = "stopping",
        /// Ended as somebody wished: the user, or the guest itself.
        Stopped = "stopped",
        /// Its VMM died unasked.
        Crashed = "crashed",
        /// Nexus gave up on it, or it could not be started.
        Failed = "failed",
    }
}

impl VmState {
    /// Whether a VMM process belongs to this state.
    #[must_use]
    pub const fn has_vmm(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Stopping)
    }
}

words! {
    /// What somebody wants of a VM. Stored before anything is done about it.
    pub enum Desired {
        /// It should run.
        Running = "running",
        /// Nothing: it does not run, and may start with the daemon.
        Resting = "resting",
        /// It should not run, because somebody said so: it does not start with the daemon either.
        Stopped = "stopped",
        /// It should not be; its disks stay.
        Removed = "removed",
        /// It should not be, and neither should the disks that were made for it.
        RemovedWithOwnDisks = "removed-with-own-disks",
        /// It should not be, and neither should any of its disks.
        RemovedWithDisks = "removed-with-disks",
    }
}

words! {
    /// Why a VM is in its state.
    pub enum Reason {
        /// It was made.
        Created = "created",
        /// Somebody asked.
        Requested = "requested",
        /// The VMM is up.
        VmmStarted = "vmm-started",
        /// The restart policy started it again.
        RestartPolicy = "restart-policy",
        /// It was running when nexusd started, and goes on.
        Adopted = "adopted",
        /// `autostart` started it with the daemon.
        Autostart = "autostart",
        /// The guest powered off.
        GuestPoweroff = "guest-poweroff",
        /// The guest rebooted.
        GuestReboot = "guest-reboot",
        /// The guest's kernel panicked.
        GuestPanic = "guest-panic",
        /// The VMM ended without anybody having asked, or a signal killed it.
        VmmExited = "vmm-exited",
        /// Its vsock sidecar ended; a guest can't be reached after that.
        VsockExited = "vsock-exited",
        /// It did not stop in time and was killed, or somebody asked for that.
        Killed = "killed",
        /// It could not be started.
        StartFailed = "start-failed",
        /// It failed too often in too short a time.
        TooManyFailures = "too-many-failures",
        /// The machine was started anew.
        HostRebooted = "host-rebooted",
        /// The start was cancelled.
        Cancelled = "cancelled",
    }
}

/// State, reason and instant of the last transition. The only way to another state is one of the functions below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    state: VmState,
    reason: Reason,
    changed_at: Timestamp,
}

/// A transition that is not legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {from}{}", self.wanted())]
pub struct IllegalTransition {
    /// The state that it is in.
    pub from: VmState,
    /// The state that was asked for.
    pub to: VmState,
    /// The states from which that is legal, in words.
    pub needed: &'static str,
}

impl IllegalTransition {
    fn wanted(&self) -> String {
        if self.from == self.to {
            " already".to_owned()
        } else {
            format!(", but must be {} to be {}", self.needed, self.to)
        }
    }
}

impl Lifecycle {
    /// A VM that was just made.
    #[must_use]
    pub const fn created(now: Timestamp) -> Self {
        Self { state: VmState::Created, reason: Reason::Created, changed_at: now }
    }

    /// What the store kept. Not a transition.
    #[must_use]
    pub const fn restored(state: VmState, reason: Reason, changed_at: Timestamp) -> Self {
        Self { state, reason, changed_at }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> VmState {
        self.state
    }

    /// Why it is in that state.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Since when.
    #[must_use]
    pub const fn changed_at(&self) -> Timestamp {
        self.changed_at
    }

    /// A start has begun.
    ///
    /// # Errors
    /// Unless it is created, stopped, crashed or failed.
    pub fn starting(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        use VmState::{Crashed, Created, Failed, Stopped};
        self.to(
            VmState::Starting,
            &[Created, Stopped, Crashed, Failed],
            "created, stopped, crashed or failed",
            reason,
            now,
        )
    }

    /// The VMM is up.
    ///
    /// # Errors
    /// Unless it is starting.
    pub fn running(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        self.to(VmState::Running, &[VmState::Starting], "starting", reason, now)
    }

    /// The virtual CPUs stand still.
    ///
    /// # Errors
    /// Unless it is running.
    pub fn paused(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        self.to(VmState::Paused, &[VmState::Running], "running", reason, now)
    }

    /// The virtual CPUs go on.
    ///
    /// # Errors
    /// Unless it is paused.
    pub fn resumed(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        self.to(VmState::Running, &[VmState::Paused], "paused", reason, now)
    }

    /// A stop has begun.
    ///
    /// # Errors
    /// Unless it is starting, running or paused.
    pub fn stopping(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        use VmState::{Paused, Running, Starting};
        self.to(VmState::Stopping, &[Starting, Running, Paused], "starting, running or paused", reason, now)
    }

    /// It ended as somebody wished. Legal as well after a crash: that is how a restart in back-off is called off.
    ///
    /// # Errors
    /// Unless its VMM was there, or it had crashed.
    pub fn stopped(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        use VmState::{Crashed, Paused, Running, Starting, Stopping};
        self.to(
            VmState::Stopped,
            &[Starting, Running, Paused, Stopping, Crashed],
            "starting, running, paused, stopping or crashed",
            reason,
            now,
        )
    }

    /// The VMM died unasked.
    ///
    /// # Errors
    /// Unless its VMM was there.
    pub fn crashed(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        use VmState::{Paused, Running, Starting, Stopping};
        self.to(
            VmState::Crashed,
            &[Starting, Running, Paused, Stopping],
            "starting, running, paused or stopping",
            reason,
            now,
        )
    }

    /// Nexus gave up, or could not start it.
    ///
    /// # Errors
    /// Unless it is starting or crashed.
    pub fn failed(self, reason: Reason, now: Timestamp) -> Result<Self, IllegalTransition> {
        self.to(VmState::Failed, &[VmState::Starting, VmState::Crashed], "starting or crashed", reason, now)
    }

    fn to(
        self,
        to: VmState,
        legal: &[VmState],
        needed: &'static str,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Self, IllegalTransition> {
        if legal.contains(&self.state) {
            Ok(Self { state: to, reason, changed_at: now })
        } else {
            Err(IllegalTransition { from: self.state, to, needed })
        }
    }
}
