//! What an incarnation does first: it compares the row with the machine, and adopts or undoes.
//!
//! The same after a crash of the actor, a restart of the daemon and a restart of the machine.

use nexus_host::{
    process::boot_id,
    unit::{ExitRecord, ProgramRole, UnitState},
    vmm::MachineState,
};
use nexus_model::{
    ExitStatus,
    vm::{Desired, Reason, VmState},
};
use nexus_store::ProcessRow;
use tracing::info;

use super::state::Machine;
use crate::{Error, catalogue};

impl Machine {
    /// Brings row and machine together and shows the result.
    pub(super) async fn recover(&mut self) -> Result<(), Error> {
        self.engine.board.publish_vm(self.vm.name.clone(), self.picture());
        if self.row.desired == Desired::Removed {
            self.retired = true;
            self.clear_away().await;
            if self.state().has_vmm() || self.state() == VmState::Crashed {
                self.stopped(Reason::Requested, None).await?;
            }
            self.engine.resume_removal(&self.vm);
            return Ok(());
        }
        match self.state() {
            VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping => self.recover_run().await?,
            VmState::Crashed if self.row.desired == Desired::Running => self.resume_restart(),
            _ => {}
        }
        Ok(())
    }

    async fn recover_run(&mut self) -> Result<(), Error> {
        let rebooted =
            self.row.process.as_ref().is_some_and(|process| Some(&process.leader.boot_id) != boot_id().ok().as_ref());
        if rebooted {
            self.clear_away().await;
            let restart = self.row.desired == Desired::Running;
            self.stopped(Reason::HostRebooted, None).await?;
            return if restart { self.begin_start(Reason::HostRebooted, None, None).await } else { Ok(()) };
        }
        let state = self.engine.keeper.inspect(&self.unit(), &self.runtime()).await?;
        match (self.state(), state) {
            // Cut off in the middle of a start: the guest has hardly begun, so it begins anew.
            (VmState::Starting, _) => {
                let restart = self.row.desired == Desired::Running;
                self.clear_away().await;
                self.stopped(Reason::Cancelled, None).await?;
                if restart { self.begin_start(Reason::Requested, None, None).await } else { Ok(()) }
            }
            (_, UnitState::Running(started)) => self.adopt(started).await,
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
        self.run += 1;
        self.watch_leader(leader.clone());
        let driver = self.driver.clone().ok_or_else(|| Error::internal("no driver is known for a running VM"))?;
        let plan = self.plan_of_run();
        match (driver.state(&plan, &leader).await, self.state()) {
            (Ok(MachineState::Running), VmState::Paused) => {
                let to = self.row.lifecycle.resumed(Reason::Adopted, Self::now());
                self.transition("", to).await?;
            }
            (Ok(MachineState::Paused), VmState::Running) => {
                let to = self.row.lifecycle.paused(Reason::Adopted, Self::now());
                self.transition("", to).await?;
            }
            (Err(error), _) => {
                tracing::warn!(NEXUS_VM = %self.vm.name, "the VMM does not say what it does: {}", Error::from(error).text());
            }
            _ => {}
        }
        info!(
            NEXUS_VM = %self.vm.name,
            NEXUS_GENERATION = self.child.generation,
            MESSAGE_ID = catalogue::VM_ADOPTED,
            "VM {} was adopted: its VMM is process {}",
            self.vm.name,
            leader.pid,
        );
        self.power_on()?;
        self.publish();
        if self.state() == VmState::Stopping {
            // Asked to stop before: the agent is not connected yet, so there is nobody to ask again.
            self.resume_stop();
        }
        Ok(())
    }

    async fn ended_while_away(&mut self, record: ExitRecord) -> Result<(), Error> {
        if self.state() == VmState::Stopping {
            self.clear_away().await;
            return self.stopped(Reason::Requested, Some(record)).await;
        }
        self.ended_unasked(record).await
    }
}
