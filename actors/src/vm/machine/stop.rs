//! Stopping: the guest is asked, then the VMM is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::{
    ErrorKind, failpoint,
    vm::{Desired, Reason, VmState},
};
use nexus_protocol::ShutdownMode;
use nexus_store::VmRow;
use tokio::{sync::watch, time::Instant};

use super::{
    Next,
    operation::{Operation, OperationKind},
    state::Machine,
};
use crate::{Error, Origin, ask::Reply, jobs::JobControl, snapshot::JobId, vm::Power};

impl Machine {
    /// [`MachineMessage::Stop`](super::MachineMessage::Stop), and `Kill` when the guest gets no time.
    pub(super) async fn stop(
        &mut self,
        origin: Origin,
        timeout: Option<Duration>,
        next: Next,
        job: Option<JobControl>,
        reply: Reply<()>,
    ) -> Result<(), Error> {
        self.asked(&origin, if timeout.is_some() { "stopped" } else { "killed" });
        let next = if self.retired { Next::Rest } else { next };
        let desired = match next {
            _ if self.retired => self.row.desired,
            Next::StartAgain => Desired::Running,
            Next::Rest => Desired::Stopped,
        };
        if self.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Stop) {
            self.join_stop(timeout, next, desired, reply).await;
            return Ok(());
        }
        if let Some(start) = self.operation.take_if(|operation| operation.kind == OperationKind::Start) {
            let stopped = self.stopped_meanwhile();
            return self.call_off_start(Some((start, stopped)), desired, reply).await;
        }
        // What is broken off may have come far enough to make the virtual CPUs stand still.
        let mut frozen = self.state() == VmState::Paused;
        if let Some(operation) = self.operation.take() {
            frozen |= matches!(operation.kind, OperationKind::Pause | OperationKind::Resume);
            operation.answer(Err(self.stopped_meanwhile()));
        }
        match self.state() {
            VmState::Running | VmState::Paused => self.begin_stop(desired, timeout, frozen, job, Some(reply)).await,
            VmState::Starting | VmState::Stopping => self.call_off_start(None, desired, reply).await,
            VmState::Crashed => {
                let stopped = self.stopped(Reason::Requested, None, desired).await;
                if stopped.is_ok() {
                    self.forget_restart();
                }
                let _ = reply.send(stopped);
                Ok(())
            }
            VmState::Created | VmState::Stopped | VmState::Failed => {
                let change = |row: &mut VmRow| row.desired = desired;
                let stored = if self.restart_timer.is_none() {
                    self.commit("", change).await
                } else if next == Next::Rest {
                    // It ended without a failure, so that nothing but this tells of it: the state stays as it is.
                    self.without_restart(&origin, "requested", "somebody stopped it", Vec::new(), change).await
                } else {
                    self.commit("", change).await.inspect(|()| self.call_off_restart())
                };
                let _ = reply.send(stored);
                Ok(())
            }
        }
    }

    /// Another stop, of a VM that is stopping. Who comes last says what follows: a stop ends the restart whose first half
    /// is under way.
    async fn join_stop(&mut self, timeout: Option<Duration>, next: Next, desired: Desired, reply: Reply<()>) {
        let outdone = next == Next::Rest && self.row.desired == Desired::Running;
        if self.row.desired != desired
            && let Err(error) = self.commit("", |row| row.desired = desired).await
        {
            let _ = reply.send(Err(error));
            return;
        }
        let Some(operation) = &mut self.operation else { return };
        operation.hurry(timeout.unwrap_or_default());
        let earlier = if outdone { std::mem::take(&mut operation.waiting) } else { Vec::new() };
        operation.waiting.push(reply);
        for waiting in earlier {
            let _ = waiting.send(Err(self.stopped_meanwhile()));
        }
    }

    pub(super) fn stopped_meanwhile(&self) -> Error {
        Error::new(ErrorKind::Cancelled, format!("somebody stopped VM `{}` meanwhile", self.vm.name))
    }

    /// [`MachineMessage::CancelStart`](super::MachineMessage::CancelStart).
    pub(super) async fn cancel_start(&mut self, job: JobId, origin: &Origin, reply: Reply<()>) -> Result<(), Error> {
        let of_job = |operation: &mut Operation| {
            operation.kind == OperationKind::Start && operation.job.as_ref().is_some_and(|own| own.id() == job)
        };
        let Some(operation) = self.operation.take_if(of_job) else {
            // It has ended, or an incarnation before this one had it; what runs now is not that job's.
            let _ = reply.send(Ok(()));
            return Ok(());
        };
        self.asked(origin, "not started after all");
        let text = format!("the start of VM `{}` was cancelled", self.vm.name);
        let cancelled = Error::new(ErrorKind::Cancelled, text);
        self.call_off_start(Some((operation, cancelled)), Desired::Stopped, reply).await
    }

    /// Stores the intent and begins to stop what runs. A guest that is `frozen` is let go on first.
    async fn begin_stop(
        &mut self,
        desired: Desired,
        timeout: Option<Duration>,
        frozen: bool,
        job: Option<JobControl>,
        reply: Option<Reply<()>>,
    ) -> Result<(), Error> {
        self.cause = job.as_ref().map(JobControl::id);
        let lifecycle =
            self.row.lifecycle.stopping(Reason::Requested, Self::now()).map_err(|error| self.illegal(error))?;
        let stored = self
            .commit("", |row| {
                row.desired = desired;
                row.lifecycle = lifecycle;
            })
            .await;
        if let Err(error) = stored {
            if let Some(reply) = reply {
                let _ = reply.send(Err(error));
            }
            return Ok(());
        }
        // A guest whose agent never answered in this run has none, or has hardly begun: there is nobody to wait for.
        let timeout = timeout.filter(|_| self.row.ready_duration.is_some());
        self.run_stop(timeout.unwrap_or_default(), frozen, job, reply);
        self.publish();
        Ok(())
    }

    /// Goes on with a stop that was cut off, once its guest can be asked again.
    pub(super) fn resume_stop(&mut self) {
        // Whether its virtual CPUs stand still is not known any more; to let those go on that do changes nothing.
        self.run_stop(self.engine.settings.stop_timeout, true, None, None);
    }

    /// Asks the guest, gives it its time, which may be made shorter meanwhile, and kills the VMM. The end of that is
    /// noticed by the watch, which then finds the operation and ends it.
    fn run_stop(&mut self, timeout: Duration, frozen: bool, job: Option<JobControl>, reply: Option<Reply<()>>) {
        let leader = self.row.process.as_ref().map(|process| process.leader.clone());
        let resume = match (frozen, self.driver.clone(), leader) {
            (true, Some(driver), Some(leader)) => Some((driver, self.plan_of_run(), leader)),
            _ => None,
        };
        let agents = self.vm.agent.subscribe();
        let stage = job.clone();
        let ask = async move {
            if let Some(job) = &stage {
                job.stage("guest");
            }
            if let Some((driver, plan, leader)) = resume {
                driver.resume(&plan, &leader).await?;
            }
            ask_to_power_off(agents).await
        };
        let (deadline, due) = watch::channel(Instant::now() + timeout);
        self.killed = Arc::new(AtomicBool::new(false));
        let killed = self.killed.clone();
        let keeper = self.engine.keeper.clone();
        let (unit, runtime, name) = (self.unit(), self.runtime(), self.vm.name.clone());
        let (path, generation) = (self.child.path.clone(), self.child.generation);
        self.begin(OperationKind::Stop, job, reply, move |_| async move {
            tokio::select! {
                biased;
                () = passed(due) => {}
                Err(error) = ask => {
                    tracing::warn!(
                        NEXUS_VM = %name,
                        NEXUS_ACTOR = path,
                        NEXUS_GENERATION = generation,
                        "the orderly stop of VM {name} broke off: {}",
                        error.text(),
                    );
                }
            }
            killed.store(true, Ordering::Relaxed);
            failpoint("stop.before-kill");
            keeper.kill(&unit, &runtime).await?;
            failpoint("stop.killed");
            Ok(())
        });
        if let Some(operation) = &mut self.operation {
            operation.deadline = Some(deadline);
        }
    }

    /// The VMM was killed: the watch is about to say so. Or it can't be killed, which the next stop tries again.
    pub(super) fn stop_ended(&mut self, operation: Operation, result: Result<(), Error>) {
        match result {
            Ok(()) => self.operation = Some(operation),
            Err(error) => {
                self.warn(format_args!("VM {} could not be killed: {}", self.vm.name, error.text()));
                operation.answer(Err(error));
                self.publish();
            }
        }
    }

    /// Ends a start, whose operation is told why, or a stop whose task is gone already. What can't be stored leaves a start
    /// as it is; what can't be finished the next incarnation finishes.
    async fn call_off_start(
        &mut self,
        start: Option<(Operation, Error)>,
        desired: Desired,
        reply: Reply<()>,
    ) -> Result<(), Error> {
        if let Err(error) = self.commit("", |row| row.desired = desired).await {
            self.operation = start.map(|(operation, _)| operation);
            let _ = reply.send(Err(error));
            return Ok(());
        }
        if let Some((operation, why)) = start {
            operation.answer(Err(why));
        }
        self.turn_power(Power::Off);
        let done = async {
            self.clear_away().await?;
            self.stopped(Reason::Cancelled, None, desired).await
        };
        match done.await {
            Ok(()) => {
                let _ = reply.send(Ok(()));
                Ok(())
            }
            Err(error) => {
                let _ = reply.send(Err(Error::new(error.kind(), error.text())));
                Err(error)
            }
        }
    }
}

/// Returns only when the guest can't be asked. The end of the VMM is noticed elsewhere.
async fn ask_to_power_off(mut agents: watch::Receiver<Option<AgentClient>>) -> Result<(), Error> {
    // It may be between two connections.
    let agent = match agents.wait_for(Option::is_some).await {
        Ok(agent) => agent.clone(),
        Err(_) => None,
    };
    if let Some(agent) = agent {
        failpoint("stop.before-guest");
        match agent.shutdown(ShutdownMode::Poweroff).await {
            // A connection that is gone may as well mean that it was quick.
            Ok(()) | Err(AgentError::Gone(_) | AgentError::Lost(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    std::future::pending().await
}

/// Returns when the time is over, which may be brought forward.
async fn passed(mut due: watch::Receiver<Instant>) {
    loop {
        let at = *due.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            Ok(()) = due.changed() => {}
        }
    }
}
