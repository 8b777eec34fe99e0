//! What the machine's actor knows, and how it writes down and shows each change.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::SystemTime,
};

use nexus_host::{vmm::VmmDriver, vsock::Endpoint};
use nexus_model::{
    ErrorKind, EventKind, Health, Timestamp, failpoint,
    restart::{FailureWindow, RestartPolicy},
    vm::{IllegalTransition, Lifecycle, VmState},
};
use nexus_store::{HistoryEntry, NewEvent, Store, VmOf, VmRow};
use ractor::ActorRef;
use tokio_util::task::AbortOnDropHandle;

use super::{MachineMessage, Next, journal::journal, operation::Operation};
use crate::{
    Engine, Error, Origin,
    ask::Reply,
    snapshot::{GuestSnapshot, JobId},
    supervisor::ChildContext,
    vm::{Disks, Power, VmContext},
};

/// State of the machine's actor.
pub(super) struct Machine {
    pub(super) myself: ActorRef<MachineMessage>,
    pub(super) engine: Engine,
    pub(super) vm: Arc<VmContext>,
    pub(super) child: ChildContext,
    /// What the store has.
    pub(super) row: VmRow,
    /// What runs the VM, once that is known.
    pub(super) driver: Option<Arc<dyn VmmDriver>>,
    /// How the guest of the run that is there is reached, as its start said.
    pub(super) endpoint: Option<Endpoint>,
    /// Whether the stop under way has come to killing.
    pub(super) killed: Arc<AtomicBool>,
    pub(super) operation: Option<Operation>,
    /// The job that the VM's last change was made for, if it was one.
    pub(super) cause: Option<JobId>,
    pub(super) operations: u64,
    /// Waits for the end of the VMM. There while one runs.
    pub(super) watch: Option<AbortOnDropHandle<()>>,
    pub(super) guest: Option<GuestSnapshot>,
    /// The agent said that its guest goes down by itself; true for a reboot.
    pub(super) ending: Option<bool>,
    /// Counts the runs that this incarnation has seen begin.
    pub(super) run: u64,
    pub(super) failures: FailureWindow,
    /// The restart that is due, by its number; an older number is a timer that was called off.
    pub(super) restart_timer: Option<u64>,
    pub(super) timers: u64,
    /// Set once it is about to be removed.
    pub(super) retired: bool,
}

impl Machine {
    /// Reads the row, and fences off an older incarnation that may still be at work.
    pub(super) async fn load(
        myself: ActorRef<MachineMessage>,
        engine: Engine,
        vm: Arc<VmContext>,
        child: ChildContext,
    ) -> Result<Self, Error> {
        let id = vm.id;
        let row = engine.store.call_now(move |store| store.claim_vm(id)).await?;
        let mut failures = FailureWindow::new(RestartPolicy::BACKOFF, RestartPolicy::INTENSITY);
        for at in &row.recent_failures {
            failures.failed(*at, 0.5);
        }
        let driver = row.vmm.and_then(|kind| engine.vmms.driver(kind).ok());
        vm.env.send_replace(row.spec.env.clone());
        vm.files.send_replace(row.spec.files.clone());
        Ok(Self {
            myself,
            engine,
            vm,
            child,
            row,
            driver,
            endpoint: None,
            killed: Arc::default(),
            operation: None,
            cause: None,
            operations: 0,
            watch: None,
            guest: None,
            ending: None,
            run: 0,
            failures,
            restart_timer: None,
            timers: 0,
            retired: false,
        })
    }

    /// One message.
    pub(super) async fn handle(&mut self, message: MachineMessage) -> Result<(), Error> {
        match message {
            MachineMessage::Start { origin, reason, wanted, job, reply } => {
                self.start(origin, reason, wanted, job, reply).await
            }
            MachineMessage::Stop { origin, timeout, next, job, reply } => {
                self.stop(origin, Some(timeout), next, job, reply).await
            }
            MachineMessage::CancelStart { job, origin, reply } => self.cancel_start(job, &origin, reply).await,
            MachineMessage::Kill { origin, reply } => self.stop(origin, None, Next::Rest, None, reply).await,
            MachineMessage::Pause { origin, reply } => self.pause(&origin, reply),
            MachineMessage::Resume { origin, reply } => self.resume(&origin, reply),
            MachineMessage::Set { origin, setting, reply } => self.set(&origin, setting, reply).await,
            MachineMessage::ResetFailed { origin, reply } => self.reset_failed(&origin, reply).await,
            MachineMessage::Retire { origin, force, disks, reply } => self.retire(origin, force, disks, reply).await,
            MachineMessage::Launched { operation, launched } => self.launched(operation, *launched).await,
            MachineMessage::OperationEnded { operation, result } => self.operation_ended(operation, result).await,
            MachineMessage::Ended { leader, record } => self.ended(leader, record).await,
            MachineMessage::RestartDue { timer } => self.restart_due(timer).await,
            MachineMessage::GuestUp { run, guest } => self.guest_up(run, *guest).await,
            MachineMessage::GuestDown { run, unusable } => {
                if self.is_of(run) {
                    self.guest = None;
                    if unusable {
                        self.child.reporter.set_health(Health::Unreachable);
                    }
                    self.publish();
                }
                Ok(())
            }
            MachineMessage::ConnectionsChanged => {
                self.publish();
                Ok(())
            }
            MachineMessage::GuestEnding { run, reboot } => {
                if self.is_of(run) {
                    self.ending = Some(reboot);
                }
                Ok(())
            }
        }
    }

    pub(super) const fn state(&self) -> VmState {
        self.row.lifecycle.state()
    }

    /// Whether what a guest of that run says is still about something that is there.
    const fn is_of(&self, run: u64) -> bool {
        run == self.run && self.state().has_vmm()
    }

    /// Something that happens to the VM now, beside its transitions.
    pub(super) fn event(&self, kind: EventKind) -> NewEvent {
        NewEvent {
            vm: Some(VmOf { name: self.vm.name.clone(), id: Some(self.vm.id) }),
            ..NewEvent::now(kind, format!("vm/{}", self.vm.name))
        }
    }

    pub(super) fn now() -> Timestamp {
        SystemTime::now().into()
    }

    /// Writes the row, with the transition that `change` made if it made one, and shows the result. Nothing is shown
    /// that the store does not have.
    pub(super) async fn commit(&mut self, detail: &str, change: impl FnOnce(&mut VmRow)) -> Result<(), Error> {
        self.commit_telling(Vec::new(), detail, change).await
    }

    /// As [`commit`](Self::commit), with events that are there if the change is.
    pub(super) async fn commit_telling(
        &mut self,
        events: Vec<NewEvent>,
        detail: &str,
        change: impl FnOnce(&mut VmRow),
    ) -> Result<(), Error> {
        let mut row = self.row.clone();
        change(&mut row);
        let (from, to) = (self.row.lifecycle, row.lifecycle);
        let history = (from != to).then(|| HistoryEntry {
            at: to.changed_at(),
            from: from.state(),
            to: to.state(),
            reason: to.reason(),
            detail: detail.to_owned(),
        });
        let stored = row.clone();
        let tells = !events.is_empty();
        failpoint("machine.before-store");
        let write = move |store: &mut Store| {
            store.update_vm(&stored, history.as_ref())?;
            events.iter().try_for_each(|event| store.insert_event(event))
        };
        self.engine.store.call_now(move |store| if tells { store.together(write) } else { write(store) }).await?;
        failpoint("machine.after-store");
        self.row = row;
        if from.state() != to.state() {
            self.show_health();
        }
        if from != to {
            macro_rules! tell {
                ($level:ident) => {
                    journal!(
                        $level,
                        self,
                        NEXUS_JOB = self.cause,
                        MESSAGE_ID = crate::catalogue::VM_STATE,
                        NEXUS_STATE = %to.state(),
                        NEXUS_REASON = %to.reason(),
                        "VM {} is {} ({}){}{detail}",
                        self.vm.name,
                        to.state(),
                        to.reason(),
                        if detail.is_empty() { "" } else { ": " },
                    )
                };
            }
            // A level is no value.
            if to.state() == VmState::Crashed { tell!(warn) } else { tell!(info) }
        }
        self.publish();
        Ok(())
    }

    /// Says of the VM what its state says. What is said of a guest and its VMM while they run is over with them.
    pub(super) fn show_health(&self) {
        let health = match self.state() {
            VmState::Created | VmState::Stopped | VmState::Starting => Health::Ok,
            VmState::Crashed | VmState::Failed => Health::Failed,
            VmState::Running | VmState::Paused | VmState::Stopping => return,
        };
        self.child.reporter.set_health(health);
    }

    /// Writes down that somebody wants something done to the VM.
    pub(super) fn asked(&self, origin: &Origin, done: &str) {
        journal!(
            info,
            self,
            NEXUS_REQUEST = %origin.request,
            DBUS_SENDER = origin.sender,
            NEXUS_CALLER_REASON = origin.reason,
            "{} wants VM {} {done}",
            origin.sender,
            self.vm.name,
        );
    }

    /// Writes down that something about the VM is not as it should be.
    pub(super) fn warn(&self, text: std::fmt::Arguments<'_>) {
        journal!(warn, self, "{text}",);
    }

    /// A transition and nothing else.
    pub(super) async fn transition(
        &mut self,
        detail: &str,
        to: Result<Lifecycle, IllegalTransition>,
    ) -> Result<(), Error> {
        let lifecycle = to.map_err(|error| self.illegal(error))?;
        self.commit(detail, |row| row.lifecycle = lifecycle).await
    }

    pub(super) fn illegal(&self, error: IllegalTransition) -> Error {
        Error::new(ErrorKind::InvalidState, format!("VM `{}` can't do that: {error}", self.vm.name))
    }

    /// Where what belongs to a run is.
    pub(super) fn runtime(&self) -> PathBuf {
        self.engine.settings.folders.vm_runtime(self.vm.id)
    }

    /// The name of the unit that holds its processes, the same for every run.
    pub(super) fn unit(&self) -> String {
        format!("nexus-{}-{}", self.engine.settings.instance, self.vm.id)
    }

    /// Whether a request other than the one under way must wait.
    pub(super) fn check_idle(&self) -> Result<(), Error> {
        if self.retired {
            return Err(Error::new(ErrorKind::Busy, format!("VM `{}` is being removed", self.vm.name)));
        }
        match &self.operation {
            Some(operation) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "VM `{}` is busy: a {} is under way; wait for it, or stop the VM",
                    self.vm.name, operation.kind
                ),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn turn_power(&self, power: Power) {
        self.vm.power.send_if_modified(|current| {
            let changed = *current != power;
            *current = power;
            changed
        });
    }

    async fn guest_up(&mut self, run: u64, guest: GuestSnapshot) -> Result<(), Error> {
        if !self.is_of(run) {
            return Ok(());
        }
        self.guest = Some(guest);
        self.child.reporter.set_health(if self.driver.is_some() { Health::Ok } else { Health::Degraded });
        if self.row.ready_duration.is_none() && !self.row.started_at.is_never() {
            let ready = self.row.started_at.until(Self::now());
            match self.commit("", |row| row.ready_duration = Some(ready)).await {
                // It is no more than a figure.
                Err(error) if error.is_of_storage() => {
                    let text = error.text();
                    self.warn(format_args!("how soon the guest of VM {} answered is not stored: {text}", self.vm.name));
                }
                stored => return stored,
            }
        }
        self.publish();
        Ok(())
    }

    async fn retire(&mut self, origin: Origin, force: bool, disks: Disks, reply: Reply<()>) -> Result<(), Error> {
        let runs = self.state().has_vmm() || self.operation.is_some();
        if runs && !force {
            let text = format!(
                "VM `{}` is {}: stop it first, or remove it with `force` (nexusctl: --force)",
                self.vm.name,
                self.state()
            );
            let _ = reply.send(Err(Error::new(ErrorKind::InvalidState, text)));
            return Ok(());
        }
        if let Err(error) = self.commit("", |row| row.desired = disks.desired()).await {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        self.retired = true;
        self.call_off_restart();
        if runs {
            self.stop(origin, None, Next::Rest, None, reply).await
        } else {
            let _ = reply.send(self.clear_away().await.map(|_| ()));
            Ok(())
        }
    }
}
