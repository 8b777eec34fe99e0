//! Stopping: the guest is asked, then the VMM is killed.

use std::time::Duration;

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::{
    ErrorKind,
    vm::{Desired, Reason, VmState},
};
use nexus_protocol::ShutdownMode;
use tokio::{sync::watch, time::Instant};

use super::{
    Next,
    operation::{Operation, OperationKind},
    state::Machine,
};
use crate::{Error, Origin, ask::Reply, jobs::JobControl, vm::Power};

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
        if let Some(operation) = &mut self.operation
            && operation.kind == OperationKind::Stop
        {
            operation.waiting.push(reply);
            if timeout.is_none() {
                self.kill_now();
            }
            return Ok(());
        }
        let desired = match next {
            _ if self.retired => Desired::Removed,
            Next::StartAgain => Desired::Running,
            Next::Rest => Desired::Stopped,
        };
        self.forget_restart();
        if let Some(operation) = self.operation.take() {
            let start = operation.kind == OperationKind::Start;
            let text = format!("somebody stopped VM `{}` meanwhile", self.vm.name);
            operation.answer(Err(Error::new(ErrorKind::Cancelled, text)));
            if start {
                return self.call_off_start(desired, reply).await;
            }
        }
        match self.state() {
            VmState::Running | VmState::Paused => self.begin_stop(desired, timeout, job, Some(reply)).await,
            VmState::Starting | VmState::Stopping => self.call_off_start(desired, reply).await,
            VmState::Crashed => {
                let stored = self.commit("", |row| row.desired = desired).await;
                let stopped = match stored {
                    Ok(()) => self.stopped(Reason::Requested, None, next).await,
                    error => error,
                };
                let _ = reply.send(stopped);
                Ok(())
            }
            VmState::Created | VmState::Stopped | VmState::Failed => {
                let _ = reply.send(self.commit("", |row| row.desired = desired).await);
                Ok(())
            }
        }
    }

    /// Stores the intent and begins to stop what runs.
    pub(super) async fn begin_stop(
        &mut self,
        desired: Desired,
        timeout: Option<Duration>,
        job: Option<JobControl>,
        reply: Option<Reply<()>>,
    ) -> Result<(), Error> {
        self.cause = job.as_ref().map(JobControl::id);
        let paused = self.state() == VmState::Paused;
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
        let resume = match (paused, self.driver.clone()) {
            (true, Some(driver)) => Some((driver, self.plan_of_run())),
            _ => None,
        };
        let leader = self.row.process.as_ref().map(|process| process.leader.clone());
        self.killed = timeout.is_none();
        // A guest whose agent never answered in this run has none, or has hardly begun: there is nobody to wait for.
        let timeout = timeout.filter(|_| self.row.ready_duration.is_some());
        let agents = self.vm.agent.subscribe();
        let stage = job.clone();
        self.begin(OperationKind::Stop, job, reply, move |_| async move {
            let Some(timeout) = timeout else { return Ok(()) };
            if let Some(job) = &stage {
                job.stage("guest");
            }
            if let (Some((driver, plan)), Some(leader)) = (resume, leader) {
                driver.resume(&plan, &leader).await?;
            }
            ask_to_power_off(agents, timeout).await
        });
        self.publish();
        Ok(())
    }

    /// The guest had its time, or there is nobody to ask: the VMM is killed. Its end is noticed by the watch, which then
    /// finds the operation and ends it.
    pub(super) async fn stop_ended(&mut self, operation: Operation, result: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = result {
            tracing::warn!(NEXUS_VM = %self.vm.name, "the orderly stop broke off: {}", error.text());
        }
        self.operation = Some(operation);
        self.kill_now();
        Ok(())
    }

    /// Goes on with a stop that was cut off, once its guest can be asked again.
    pub(super) fn resume_stop(&mut self) {
        let timeout = self.engine.settings.stop_timeout;
        let agents = self.vm.agent.subscribe();
        self.begin(OperationKind::Stop, None, None, move |_| ask_to_power_off(agents, timeout));
    }

    fn kill_now(&mut self) {
        self.killed = true;
        let keeper = self.engine.keeper.clone();
        let (unit, runtime, name) = (self.unit(), self.runtime(), self.vm.name.clone());
        tokio::spawn(async move {
            if let Err(error) = keeper.kill(&unit, &runtime).await {
                tracing::error!(NEXUS_VM = %name, "VM {name} could not be killed: {}", Error::from(error).text());
            }
        });
    }

    /// Ends a start, or a stop, whose task is gone already.
    async fn call_off_start(&mut self, desired: Desired, reply: Reply<()>) -> Result<(), Error> {
        let next = if desired == Desired::Running { Next::StartAgain } else { Next::Rest };
        self.turn_power(Power::Off);
        let done = async {
            self.commit("", |row| row.desired = desired).await?;
            self.clear_away().await?;
            self.stopped(Reason::Cancelled, None, next).await
        };
        let _ = reply.send(done.await);
        Ok(())
    }
}

/// Returns when the guest had its time. The end of the VMM, which is noticed elsewhere, comes before that if all is well.
async fn ask_to_power_off(mut agents: watch::Receiver<Option<AgentClient>>, timeout: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    // It may be between two connections.
    let agent = match tokio::time::timeout_at(deadline, agents.wait_for(Option::is_some)).await {
        Ok(Ok(agent)) => agent.clone(),
        _ => None,
    };
    let Some(agent) = agent else { return Ok(()) };
    match tokio::time::timeout_at(deadline, agent.shutdown(ShutdownMode::Poweroff)).await {
        // A connection that is gone may as well mean that it was quick.
        Ok(Ok(()) | Err(AgentError::Gone(_))) | Err(_) => {}
        Ok(Err(error)) => return Err(error.into()),
    }
    tokio::time::sleep_until(deadline).await;
    Ok(())
}
