//! The end of a VMM: what it means, and whether the VM is started again.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use nexus_host::{
    process::{ProcessError, ProcessWatch},
    unit::{ExitRecord, ProgramRole},
    vmm::GuestEnd,
};
use nexus_model::{
    ErrorKind, EventKind, ExitStatus, Health, ProcessIdentity, Timestamp,
    restart::{Intensity, RestartPolicy, Verdict},
    vm::{Desired, Reason, VmState},
};
use nexus_store::{NewEvent, VmRow};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::{MachineMessage, journal::journal, operation::OperationKind, state::Machine};
use crate::{Error, Origin, catalogue, snapshot::Change, vm::Power};

/// Between two tries to watch a process, when descriptors have run out.
const WATCH_RETRY: Duration = Duration::from_secs(1);
/// Between two tries to store the end of a VMM.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Between the end of a guest that reboots and its new start.
const REBOOT_PAUSE: Duration = Duration::from_millis(100);

/// What follows once a VM is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing by itself.
    Rest,
    /// A start.
    StartAgain,
}

/// What an end of a VMM means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The guest powered off.
    Poweroff,
    /// The guest wants to be started again.
    Reboot,
    /// Nobody asked for it.
    Failure(Reason),
}

impl Machine {
    /// Follows the VMM until it ends.
    pub(super) fn watch_leader(&mut self, leader: ProcessIdentity) {
        let myself = self.myself.clone();
        let keeper = self.engine.keeper.clone();
        let (unit, runtime) = (self.unit(), self.runtime());
        let lease = self.child.lease.clone();
        let (name, path, generation) = (self.vm.name.clone(), self.child.path.clone(), self.child.generation);
        self.watch = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _lease = lease;
            while let Err(error) = wait_for(&leader).await {
                warn!(
                    NEXUS_VM = %name,
                    NEXUS_ACTOR = path,
                    NEXUS_GENERATION = generation,
                    "the VMM's process of VM {name} cannot be watched, which is tried again: {error}",
                );
                tokio::time::sleep(WATCH_RETRY).await;
            }
            let record = keeper.ended(&unit, &runtime).await.unwrap_or_else(|error| {
                warn!(
                    NEXUS_VM = %name,
                    NEXUS_ACTOR = path,
                    NEXUS_GENERATION = generation,
                    "how the VMM of VM {name} ended is not known: {error}",
                );
                ExitRecord { who: ProgramRole::Vmm, status: ExitStatus::Unknown, at: Self::now() }
            });
            let _ = myself.send_message(MachineMessage::Ended { leader, record });
        })));
    }

    /// [`MachineMessage::Ended`]. Nobody can be told that it can't be stored: it is as soon as it can.
    pub(super) async fn ended(&mut self, leader: ProcessIdentity, record: ExitRecord) -> Result<(), Error> {
        let current = self.row.process.as_ref().is_some_and(|process| process.leader == leader);
        if !current {
            return Ok(());
        }
        self.watch = None;
        self.turn_power(Power::Off);
        self.guest = None;
        match self.end_run(record).await {
            Err(error) if error.is_of_storage() => {
                let text = error.text();
                self.warn(format_args!("the end of VM {} is stored later: {text}", self.vm.name));
                self.publish();
                self.myself.send_after(STORE_RETRY, move || MachineMessage::Ended { leader, record });
                Ok(())
            }
            ended => ended,
        }
    }

    /// The VMM has ended. Where that can't be stored, all is as before.
    async fn end_run(&mut self, record: ExitRecord) -> Result<(), Error> {
        match self.operation.take() {
            Some(operation) if operation.kind == OperationKind::Start => {
                let what = if record.who == ProgramRole::Vmm { "the VMM" } else { "the vsock sidecar" };
                let words = self.last_words(record.status);
                let text = format!("{what} {} while VM `{}` was starting{words}", record.status, self.vm.name);
                self.clear_away_or_warn().await;
                if let Err(error) = self.start_failed(&text, Some(record.status)).await {
                    self.operation = Some(operation);
                    return Err(error);
                }
                operation.answer(Err(Error::new(ErrorKind::HypervisorFailed, text)));
                Ok(())
            }
            Some(operation) if operation.kind == OperationKind::Stop => {
                let reason = if self.killed.load(Ordering::Relaxed) { Reason::Killed } else { Reason::Requested };
                let desired = self.row.desired;
                self.clear_away_or_warn().await;
                if let Err(error) = self.stopped(reason, Some(record), desired).await {
                    self.operation = Some(operation);
                    return Err(error);
                }
                let abandoned = operation.waiting.iter().all(|reply| reply.is_closed());
                operation.answer(Ok(()));
                // Whoever wanted the restart and would go on with it is gone: a daemon that ended, or an incarnation.
                if desired == Desired::Running && abandoned {
                    return self.begin_start(Reason::Requested, None, None).await;
                }
                Ok(())
            }
            other => {
                let name = &self.vm.name;
                if let Some(operation) = other {
                    let text = format!("VM `{name}` ended: the VMM {}", record.status);
                    operation.answer(Err(Error::new(ErrorKind::HypervisorFailed, text)));
                }
                self.ended_unasked(record).await
            }
        }
    }

    /// The VMM ended and no operation had asked it to.
    pub(super) async fn ended_unasked(&mut self, record: ExitRecord) -> Result<(), Error> {
        self.cause = None;
        let words = self.last_words(record.status);
        let end = self.meaning(record);
        self.clear_away_or_warn().await;
        if self.row.desired != Desired::Running {
            return self.stopped(Reason::Requested, Some(record), self.row.desired).await;
        }
        match end {
            End::Poweroff if self.row.spec.restart_policy != RestartPolicy::Always => {
                self.stopped(Reason::GuestPoweroff, Some(record), Desired::Resting).await
            }
            // No failure, but not at once either: a guest that does nothing else would keep the host busy with it.
            End::Poweroff => {
                self.stopped(Reason::GuestPoweroff, Some(record), Desired::Running).await?;
                self.restart_after(RestartPolicy::BACKOFF.initial);
                Ok(())
            }
            End::Reboot => {
                self.stopped(Reason::GuestReboot, Some(record), Desired::Running).await?;
                self.restart_after(REBOOT_PAUSE);
                Ok(())
            }
            End::Failure(reason) => {
                let what = if reason == Reason::VsockExited { "the vsock sidecar" } else { "the VMM" };
                let mut text = format!("{what} {}{words}", record.status);
                if reason == Reason::GuestPanic {
                    text = "the guest's kernel panicked: its console says why".to_owned();
                } else if record.status.is_success() && self.row.ready_duration.is_none() {
                    let memory = self.row.spec.memory_bytes >> 20;
                    text.push_str(&format!(
                        "; the guest never got far: {memory} MiB of memory may be too little for it"
                    ));
                }
                let verdict = self.crashed(reason, &text, Some(record.status), record.at).await?;
                self.announce_exit(record.status);
                self.follow(verdict).await
            }
        }
    }

    /// The VM is stopped, and this is wanted of it from now on.
    pub(super) async fn stopped(
        &mut self,
        reason: Reason,
        record: Option<ExitRecord>,
        desired: Desired,
    ) -> Result<(), Error> {
        let now = Self::now();
        let lifecycle = self.row.lifecycle.stopped(reason, now).map_err(|error| self.illegal(error))?;
        self.turn_power(Power::Off);
        self.commit("", |row| {
            row.lifecycle = lifecycle;
            row.desired = desired;
            row.process = None;
            row.stopped_at = record.map_or(now, |record| record.at);
            if let Some(record) = record {
                row.exit = Some(record.status);
                row.exit_reason = format!("the VMM {}", record.status);
            }
        })
        .await?;
        self.killed.store(false, Ordering::Relaxed);
        if let Some(record) = record {
            self.announce_exit(record.status);
        }
        if desired != Desired::Running {
            self.rest();
        }
        Ok(())
    }

    /// No start follows by itself: an ephemeral VM goes.
    pub(super) fn rest(&self) {
        if self.row.spec.ephemeral && !self.retired {
            self.engine.remove_ephemeral(&self.vm);
        }
    }

    /// Writes down a crash and what the restart policy makes of it, in one step: a failure that is known is counted.
    /// Gives what follows; `None` when nothing does.
    pub(super) async fn crashed(
        &mut self,
        reason: Reason,
        text: &str,
        exit: Option<ExitStatus>,
        at: Timestamp,
    ) -> Result<Option<Verdict>, Error> {
        let now = Self::now();
        let lifecycle = self.row.lifecycle.crashed(reason, now).map_err(|error| self.illegal(error))?;
        let wanted =
            self.row.spec.restart_policy != RestartPolicy::No && !self.retired && self.row.desired == Desired::Running;
        let mut failures = self.failures.clone();
        let verdict = wanted.then(|| failures.failed(now, fastrand::f64()));
        let recent = failures.recent().collect();
        let detail = match verdict {
            Some(Verdict::Retry(wait)) => format!("{text}; started again in {:.1} s", wait.as_secs_f64()),
            _ => text.to_owned(),
        };
        self.commit(&detail, |row| {
            row.lifecycle = lifecycle;
            row.process = None;
            row.exit = exit;
            text.clone_into(&mut row.exit_reason);
            row.stopped_at = at;
            row.failure_count += 1;
            row.recent_failures = recent;
            if verdict.is_none() {
                rests(row);
            }
        })
        .await?;
        self.failures = failures;
        self.child.reporter.count_failure();
        Ok(verdict)
    }

    /// Does what follows a crash.
    pub(super) async fn follow(&mut self, verdict: Option<Verdict>) -> Result<(), Error> {
        match verdict {
            None => {
                self.rest();
                Ok(())
            }
            Some(Verdict::Retry(wait)) => {
                self.restart_after(wait);
                Ok(())
            }
            Some(Verdict::GiveUp) => {
                let now = Self::now();
                let lifecycle = self.row.lifecycle.failed(Reason::TooManyFailures, now);
                let lifecycle = lifecycle.map_err(|error| self.illegal(error))?;
                let Intensity { max, window } = RestartPolicy::INTENSITY;
                let detail = format!("more than {max} failures in {} min", window.as_secs() / 60);
                self.commit(&detail, |row| {
                    row.lifecycle = lifecycle;
                    rests(row);
                })
                .await?;
                journal!(
                    error,
                    self,
                    MESSAGE_ID = catalogue::VM_GAVE_UP,
                    "VM {} failed too often and is not started again: see `nexusctl vm history {}`",
                    self.vm.name,
                    self.vm.name,
                );
                self.rest();
                Ok(())
            }
        }
    }

    /// Nothing follows any more by itself, whatever was stored as wanted.
    async fn stay(&mut self) -> Result<(), Error> {
        if self.row.desired == Desired::Running {
            self.commit("", rests).await?;
        }
        self.rest();
        Ok(())
    }

    /// Goes on with what was under way when an incarnation, or the daemon, ended between the end of a run and the next.
    pub(super) async fn resume_stopped(&mut self) -> Result<(), Error> {
        let again = self.row.desired == Desired::Running && !self.retired;
        match self.row.lifecycle.reason() {
            // Between the two halves of a restart.
            Reason::Requested | Reason::Killed | Reason::Cancelled if again => {
                self.begin_start(Reason::Requested, None, None).await
            }
            Reason::HostRebooted if again => self.begin_start(Reason::HostRebooted, None, None).await,
            Reason::GuestReboot if again => {
                self.restart_after(REBOOT_PAUSE);
                Ok(())
            }
            Reason::GuestPoweroff if again && self.row.spec.restart_policy == RestartPolicy::Always => {
                self.restart_after(RestartPolicy::BACKOFF.initial);
                Ok(())
            }
            _ => self.stay().await,
        }
    }

    /// Goes on with a restart that was waited for: the failure was counted then, the wait begins anew.
    pub(super) async fn resume_restart(&mut self) -> Result<(), Error> {
        if self.row.spec.restart_policy == RestartPolicy::No {
            return self.stay().await;
        }
        // The incarnation before this one ended between a crash that was one too many and what follows it.
        let exhausted = self.failures.is_exhausted();
        self.follow(Some(if exhausted { Verdict::GiveUp } else { Verdict::Retry(RestartPolicy::BACKOFF.initial) }))
            .await
    }

    pub(super) fn restart_after(&mut self, wait: Duration) {
        self.timers += 1;
        let timer = self.timers;
        self.restart_timer = Some(timer);
        self.child.reporter.set_health(Health::Restarting);
        self.child.reporter.set_next_restart((SystemTime::now() + wait).into());
        self.myself.send_after(wait, move || MachineMessage::RestartDue { timer });
        journal!(
            info,
            self,
            MESSAGE_ID = catalogue::VM_RESTART,
            "VM {} is started again in {} ms",
            self.vm.name,
            wait.as_millis(),
        );
    }

    /// Whether the start that is waited for is due under that restart policy.
    pub(super) fn restart_is_due_under(&self, policy: RestartPolicy) -> bool {
        match (self.state(), self.row.lifecycle.reason(), policy) {
            (VmState::Crashed, _, policy) => policy != RestartPolicy::No,
            (VmState::Stopped, Reason::GuestPoweroff, policy) => policy == RestartPolicy::Always,
            _ => true,
        }
    }

    /// No start is waited for any more.
    pub(super) fn forget_restart(&mut self) {
        self.restart_timer = None;
        self.child.reporter.set_next_restart(Timestamp::NEVER);
    }

    /// The start that is waited for is not wanted any more.
    pub(super) fn call_off_restart(&mut self) {
        self.forget_restart();
        self.show_health();
    }

    /// Makes a change after which the start that is waited for is not wanted any more, and says so.
    pub(super) async fn without_restart(
        &mut self,
        origin: &Origin,
        reason: &str,
        why: &str,
        mut events: Vec<NewEvent>,
        change: impl FnOnce(&mut VmRow),
    ) -> Result<(), Error> {
        let state = self.state().to_string();
        events.push(NewEvent {
            from: state.clone(),
            to: state,
            reason: reason.to_owned(),
            detail: why.to_owned(),
            ..self.event(EventKind::VmRestartCalledOff)
        });
        self.commit_telling(events, "", change).await?;
        self.call_off_restart();
        journal!(
            info,
            self,
            NEXUS_REQUEST = %origin.request,
            DBUS_SENDER = origin.sender,
            MESSAGE_ID = catalogue::VM_RESTART_CALLED_OFF,
            "VM {} is not started again: {why}",
            self.vm.name,
        );
        self.rest();
        Ok(())
    }

    /// [`MachineMessage::RestartDue`].
    pub(super) async fn restart_due(&mut self, timer: u64) -> Result<(), Error> {
        if self.restart_timer != Some(timer) || self.operation.is_some() {
            return Ok(());
        }
        self.begin_start(Reason::RestartPolicy, None, None).await
    }

    /// What the end of the VMM means: the exit status, then the agent's word, then the kernel's on the console.
    fn meaning(&self, record: ExitRecord) -> End {
        if record.who == ProgramRole::VsockSidecar {
            return End::Failure(Reason::VsockExited);
        }
        if !record.status.is_success() {
            return End::Failure(Reason::VmmExited);
        }
        let console = || {
            let driver = self.driver.as_ref()?;
            driver.guest_end(&self.plan_of_run()).ok().flatten()
        };
        match (self.ending, console()) {
            (_, Some(GuestEnd::Panic)) => End::Failure(Reason::GuestPanic),
            (Some(true), _) | (None, Some(GuestEnd::Reboot)) => End::Reboot,
            (Some(false), _) | (None, Some(GuestEnd::Poweroff)) => End::Poweroff,
            (None, None) => End::Failure(Reason::VmmExited),
        }
    }

    /// The last line that the VMM wrote about itself, for an error's text.
    fn last_words(&self, status: ExitStatus) -> String {
        // Who is killed has said nothing about it; and where nobody knows how it ended, what it said last may be about
        // anything.
        if matches!(status, ExitStatus::Signal(_) | ExitStatus::Unknown) {
            return String::new();
        }
        nexus_host::vmm::last_words(&self.plan_of_run().console_log)
            .map(|words| format!(": {words}"))
            .unwrap_or_default()
    }

    fn announce_exit(&self, status: ExitStatus) {
        let reason = self.row.exit_reason.clone();
        self.engine.board.announce(Change::VmExited { name: self.vm.name.clone(), status, reason });
    }
}

/// No start follows by itself, and a policy that is set later is no reason for one.
pub(super) fn rests(row: &mut VmRow) {
    if row.desired == Desired::Running {
        row.desired = Desired::Resting;
    }
}

/// Returns when the process is gone; at once when it was gone before.
async fn wait_for(leader: &ProcessIdentity) -> Result<(), ProcessError> {
    match ProcessWatch::open(leader)? {
        Some(watch) => watch.exited().await,
        None => Ok(()),
    }
}
