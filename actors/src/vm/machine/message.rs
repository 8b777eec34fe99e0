//! Everything that can be said to the machine's actor.

use std::time::Duration;

use nexus_host::unit::{ExitRecord, Started};
use nexus_model::{
    ArtifactName, ProcessIdentity,
    vm::{Desired, Reason, VmmKind},
};

use super::Next;
use crate::{
    Error, Origin, VmSetting,
    ask::{Reply, ask_within},
    jobs::JobControl,
    snapshot::{GuestSnapshot, JobId},
    vm::Disks,
};

/// What the machine's actor is asked and told.
pub(crate) enum MachineMessage {
    /// Start the VM; the answer comes when the VMM runs. Legal when it is created, stopped, crashed or failed; `Busy`
    /// while something else is under way.
    /// `Cancelled` when `wanted` is no longer what is wanted of it.
    Start { origin: Origin, reason: Reason, wanted: Option<Desired>, job: Option<JobControl>, reply: Reply<()> },
    /// Stop the VM; the answer comes when it is stopped. Ends a start under way and a restart in back-off. A VM that is
    /// not running answers at once. One that is being stopped has the shorter of both times. With [`Next::StartAgain`] it
    /// stays wanted, and the caller starts it.
    Stop { origin: Origin, timeout: Duration, next: Next, job: Option<JobControl>, reply: Reply<()> },
    /// End the start that this job has under way, and answer when nothing of it is left. Nothing else is touched: not what
    /// it has started, nor a start by somebody else.
    CancelStart { job: JobId, origin: Origin, reply: Reply<()> },
    /// Kill the VMM. As [`Stop`](Self::Stop), without asking the guest.
    Kill { origin: Origin, reply: Reply<()> },
    /// Let the virtual CPUs stand still. Legal when it is running.
    Pause { origin: Origin, reply: Reply<()> },
    /// Let them go on. Legal when it is paused.
    Resume { origin: Origin, reply: Reply<()> },
    /// Change a setting. Always legal.
    Set { origin: Origin, setting: VmSetting, reply: Reply<()> },
    /// Forget the failures that the restart policy counts. A VM that was given up on for them is started again.
    ResetFailed { origin: Origin, reply: Reply<()> },
    /// Make ready to be removed: afterwards there is no VMM, and every other request is refused. `InvalidState` when it
    /// runs, unless `force`.
    Retire { origin: Origin, force: bool, disks: Disks, reply: Reply<()> },
    /// The operation under way has had processes started. From its own task.
    Launched { operation: u64, launched: Box<Launched> },
    /// The operation under way has ended. From its own task.
    OperationEnded { operation: u64, result: Result<(), Error> },
    /// The VMM has ended. From the watch.
    Ended { leader: ProcessIdentity, record: ExitRecord },
    /// The back-off before a restart is over.
    RestartDue { timer: u64 },
    /// The agent answered, or said something new.
    GuestUp { run: u64, guest: Box<GuestSnapshot> },
    /// Nothing can be asked of the agent, which is `unusable` unless only its connection has ended.
    GuestDown { run: u64, unusable: bool },
    /// The agent says that the guest goes down by itself.
    GuestEnding { run: u64, reboot: bool },
    /// A connection has come or gone.
    ConnectionsChanged,
}

/// What a start made.
pub(crate) struct Launched {
    pub(crate) started: Started,
    pub(crate) vmm: VmmKind,
    pub(crate) kernel: Option<ArtifactName>,
    pub(crate) initrd: Option<ArtifactName>,
}

impl super::VmContext {
    /// Sends a request to the machine, whichever incarnation of it is there, and waits for its answer.
    pub(crate) async fn ask(
        &self,
        deadline: Duration,
        message: impl FnOnce(Reply<()>) -> MachineMessage,
    ) -> Result<(), Error> {
        ask_within(deadline, &self.machine, &format!("VM `{}`", self.name), message).await?
    }
}
