//! Stopping: the guest is asked, then the VMM is killed.

use std::time::Duration;

use nexus_host::agent::AgentClient;
use nexus_model::vm::Phase;
use nexus_model::{
    ErrorKind,
    vm::{Desired, Reason, VmState},
};
use nexus_protocol::ShutdownMode;
use tokio::time::Instant;

use super::{
    Reply,
    operation::{Operation, OperationKind},
    state::Machine,
};
use crate::{Error, Origin, jobs::JobControl, vm::Power};

impl Machine {
    /// [`MachineMessage::Stop`](super::MachineMessage::Stop), and `Kill` when the guest gets no time.
    pub(super) async fn stop(
        &mut self,
        origin: Origin,
        timeout: Option<Duration>,
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
        let desired = if self.retired { Desired::Removed } else { Desired::Stopped };
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
            VmState::Crashed => {
                self.restart_timer = None;
                self.commit("", |row| row.desired = desired).await?;
                self.stopped(Reason::Requested, None).await?;
                let _ = reply.send(Ok(()));
                Ok(())
            }
            _ => {
                self.commit("", |row| row.desired = desired).await?;
                let _ = reply.send(Ok(()));
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
        self.commit("", |row| {
            row.desired = desired;
            row.phase = Some(Phase::Stopping);
            row.lifecycle = lifecycle;
        })
        .await?;
        let agent = self.vm.agent.borrow().clone();
        let resume = match (paused, self.driver.clone()) {
            (true, Some(driver)) => Some((driver, self.plan_of_run())),
            _ => None,
        };
        let leader = self.row.process.as_ref().map(|process| process.leader.clone());
        self.killed = timeout.is_none();
        let stage = job.clone();
        self.begin(OperationKind::Stop, job, reply, move |_| async move {
            let (Some(timeout), Some(agent)) = (timeout, agent) else { return Ok(()) };
            if let Some(job) = &stage {
                job.stage("guest");
            }
            if let (Some((driver, plan)), Some(leader)) = (resume, leader) {
                driver.resume(&plan, &leader).await?;
            }
            ask_to_power_off(&agent, timeout).await
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
        let mut agents = self.vm.agent.subscribe();
        self.begin(OperationKind::Stop, None, None, move |_| async move {
            let connected = agents.wait_for(Option::is_some);
            let agent = match tokio::time::timeout(timeout, connected).await {
                Ok(Ok(agent)) => agent.clone(),
                _ => None,
            };
            match agent {
                Some(agent) => ask_to_power_off(&agent, timeout).await,
                None => Ok(()),
            }
        });
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

    /// Ends a start that was under way; its task is gone already.
    async fn call_off_start(&mut self, desired: Desired, reply: Reply<()>) -> Result<(), Error> {
        self.commit("", |row| row.desired = desired).await?;
        self.turn_power(Power::Off);
        self.clear_away().await;
        self.stopped(Reason::Cancelled, None).await?;
        let _ = reply.send(Ok(()));
        Ok(())
    }
}

/// Returns when the guest had its time. The end of the VMM, which is noticed elsewhere, comes before that if all is well.
async fn ask_to_power_off(agent: &AgentClient, timeout: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    tokio::time::timeout_at(deadline, agent.shutdown(ShutdownMode::Poweroff)).await.unwrap_or(Ok(()))?;
    tokio::time::sleep_until(deadline).await;
    Ok(())
}
