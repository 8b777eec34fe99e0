//! What an incarnation does first: it compares the row with the machine, and adopts or undoes.
//!
//! The same after a crash of the actor, a restart of the daemon and a restart of the machine.

use std::time::Duration;

use nexus_host::{
    process::boot_id,
    unit::{ExitRecord, ProgramRole, UnitState},
    vmm::MachineState,
};
use nexus_model::{
    ExitStatus, Health,
    vm::{Desired, Reason, VmState},
};
use nexus_store::ProcessRow;

use super::{journal::journal, state::Machine};
use crate::{
    Error, catalogue,
    vm::{Disks, Power},
};

/// How long a VMM may take to say what it does, when it is adopted.
const PROBE: Duration = Duration::from_secs(3);

impl Machine {
    /// Brings row and machine together and shows the result.
    pub(super) async fn recover(&mut self) -> Result<(), Error> {
        self.child.reporter.set_failures(self.row.failure_count);
        self.show_health();
        self.publish();
        if let Some(disks) = Disks::of(self.row.desired) {
            self.retired = true;
            self.clear_away().await?;
            if self.state().has_vmm() || self.state() == VmState::Crashed {
                self.stopped(Reason::Requested, None, self.row.desired).await?;
            }
            self.engine.resume_removal(&self.vm, disks);
            return Ok(());
        }
        match self.state() {
            VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping => self.recover_run().await?,
            VmState::Crashed if self.row.desired == Desired::Running => self.resume_restart().await?,
            VmState::Stopped => self.resume_stopped().await?,
            // Between the two halves of a restart.
            VmState::Created | VmState::Failed if self.row.desired == Desired::Running => {
                self.begin_start(Reason::Requested, None, None).await?;
            }
            VmState::Crashed | VmState::Failed => self.rest(),
            VmState::Created => {}
        }
        Ok(())
    }

    async fn recover_run(&mut self) -> Result<(), Error> {
        let rebooted =
            self.row.process.as_ref().is_some_and(|process| Some(&process.leader.boot_id) != boot_id().ok().as_ref());
        if rebooted {
            self.engine.found.ended();
            self.clear_away_or_warn().await;
            self.stopped(Reason::HostRebooted, None, self.row.desired).await?;
            return self.start_if_wanted(Reason::HostRebooted).await;
        }
        let state = self.engine.keeper.inspect(&self.unit(), &self.runtime()).await?;
        match (self.state(), state) {
            // Cut off in the middle of a start: the guest has hardly begun, so it begins anew.
            (VmState::Starting, _) => {
                let why = self.row.lifecycle.reason();
                self.clear_away().await?;
                self.stopped(Reason::Cancelled, None, self.row.desired).await?;
                self.start_if_wanted(why).await
            }
            (_, UnitState::Running(started)) => self.adopt(*started).await,
            (_, UnitState::Ended(record)) => self.ended_while_away(record).await,
            (_, UnitState::Absent) => {
                let record = ExitRecord { who: ProgramRole::Vmm, status: ExitStatus::Unknown, at: Self::now() };
                self.ended_while_away(record).await
            }
        }
    }

    async fn adopt(&mut self, started: nexus_host::unit::Started) -> Result<(), Error> {
        let leader = started.leader.clone();
        let same = self.row.process.as_ref().is_some_and(|process| process.leader == leader);
        if !same {
            self.commit("", |row| {
                row.process = Some(ProcessRow {
                    leader: started.leader,
                    keeper: started.keeper,
                    unit: started.unit,
                    invocation_id: started.invocation_id,
                });
            })
            .await?;
        }
        self.engine.found.adopted();
        self.run += 1;
        self.endpoint = Some(started.endpoint);
        self.watch_leader(leader.clone());
        journal!(
            info,
            self,
            MESSAGE_ID = catalogue::VM_ADOPTED,
            "VM {} was adopted: its VMM is process {}",
            self.vm.name,
            leader.pid,
        );
        self.power_on()?;
        if self.driver.is_none() {
            self.warn(format_args!("VM {} runs on, but its VMM's driver is not to be had", self.vm.name));
            self.child.reporter.set_health(Health::Degraded);
        }
        self.publish();
        if self.state() == VmState::Stopping {
            self.resume_stop();
            return Ok(());
        }
        let Some(driver) = self.driver.clone() else { return Ok(()) };
        let plan = self.plan_of_run();
        match (tokio::time::timeout(PROBE, driver.state(&plan, &leader)).await, self.state()) {
            (Ok(Ok(MachineState::Running)), VmState::Paused) => {
                let to = self.row.lifecycle.resumed(Reason::Adopted, Self::now());
                self.transition("", to).await?;
            }
            (Ok(Ok(MachineState::Paused)), VmState::Running) => {
                let to = self.row.lifecycle.paused(Reason::Adopted, Self::now());
                self.transition("", to).await?;
            }
            (Ok(Ok(_)), _) => {}
            (Ok(Err(error)), _) => {
                let text = Error::from(error).text();
                self.warn(format_args!("the VMM of VM {} does not say what it does: {text}", self.vm.name));
            }
            (Err(_), _) => {
                let (name, seconds) = (&self.vm.name, PROBE.as_secs());
                self.warn(format_args!("the VMM of VM {name} does not say what it does within {seconds} s"));
            }
        }
        Ok(())
    }

    /// Starts a stopped VM that is wanted to run.
    async fn start_if_wanted(&mut self, reason: Reason) -> Result<(), Error> {
        if self.row.desired == Desired::Running { self.begin_start(reason, None, None).await } else { Ok(()) }
    }

    async fn ended_while_away(&mut self, record: ExitRecord) -> Result<(), Error> {
        self.engine.found.ended();
        self.turn_power(Power::Off);
        if self.state() == VmState::Stopping {
            self.clear_away_or_warn().await;
            self.stopped(Reason::Requested, Some(record), self.row.desired).await?;
            return self.start_if_wanted(Reason::Requested).await;
        }
        self.ended_unasked(record).await
    }
}
