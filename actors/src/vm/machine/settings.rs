//! Settings that may be changed at any time, and what is forgotten when somebody says so.

use nexus_model::{
    ErrorKind, EventKind,
    vm::{Desired, Reason, VmState},
};
use nexus_store::NewEvent;
use tracing::info;

use super::{end::rests, state::Machine};
use crate::{Error, Origin, VmSetting, ask::Reply, catalogue};

impl Machine {
    /// [`MachineMessage::Set`](super::MachineMessage::Set).
    pub(super) async fn set(&mut self, origin: &Origin, setting: VmSetting, reply: Reply<()>) -> Result<(), Error> {
        let name = setting.name();
        let before = setting.value_in(&self.row.spec);
        let mut spec = self.row.spec.clone();
        setting.clone().apply(&mut spec);
        let after = setting.value_in(&spec);
        if let Err(error) = spec.validate() {
            let _ = reply.send(Err(error.into()));
            return Ok(());
        }
        self.asked(origin, "changed");
        let changes = before != after;
        let unwanted = self.restart_timer.is_some() && !self.restart_is_due_under(spec.restart_policy);
        let why = format!("its restart policy is `{}` now", spec.restart_policy);
        let mut events = Vec::new();
        if changes {
            events.push(NewEvent {
                from: before.clone(),
                to: after.clone(),
                reason: name.to_owned(),
                ..self.event(EventKind::VmChanged)
            });
        }
        if unwanted {
            events.push(self.restart_called_off(name, &why));
        }
        let stored = self
            .commit_telling(events, "", |row| {
                row.spec = spec;
                if unwanted {
                    rests(row);
                }
            })
            .await;
        if stored.is_ok() && changes {
            info!(
                NEXUS_VM = %self.vm.name,
                NEXUS_ACTOR = self.child.path,
                NEXUS_GENERATION = self.child.generation,
                NEXUS_REQUEST = %origin.request,
                DBUS_SENDER = origin.sender,
                MESSAGE_ID = catalogue::VM_CHANGED,
                NEXUS_SETTING = name,
                NEXUS_BEFORE = before,
                NEXUS_AFTER = after,
                "the {name} of VM {} is `{after}`, and was `{before}`",
                self.vm.name,
            );
        }
        if stored.is_ok() && unwanted {
            self.call_off_restart();
            self.tell_called_off(&why);
            self.rest();
        }
        let _ = reply.send(stored);
        Ok(())
    }

    /// [`MachineMessage::ResetFailed`](super::MachineMessage::ResetFailed).
    pub(super) async fn reset_failed(&mut self, origin: &Origin, reply: Reply<()>) -> Result<(), Error> {
        self.asked(origin, "to be forgiven");
        self.failures.reset();
        let given_up = self.state() == VmState::Failed && self.row.lifecycle.reason() == Reason::TooManyFailures;
        if given_up && self.row.desired == Desired::Resting && self.check_idle().is_ok() {
            self.begin_start(Reason::Requested, None, None).await?;
            let begun = if self.state() == VmState::Starting {
                Ok(())
            } else {
                let text = format!("that VM `{}` is to start could not be stored; it is tried again", self.vm.name);
                Err(Error::new(ErrorKind::StorageFailed, text))
            };
            let _ = reply.send(begun);
        } else {
            let _ = reply.send(self.commit("", |row| row.recent_failures.clear()).await);
        }
        Ok(())
    }

    /// That the start that is waited for will not be.
    pub(super) fn restart_called_off(&self, reason: &str, why: &str) -> NewEvent {
        let state = self.state().to_string();
        NewEvent {
            from: state.clone(),
            to: state,
            reason: reason.to_owned(),
            detail: why.to_owned(),
            ..self.event(EventKind::VmRestartCalledOff)
        }
    }

    /// The same for the journal.
    pub(super) fn tell_called_off(&self, why: &str) {
        info!(
            NEXUS_VM = %self.vm.name,
            NEXUS_ACTOR = self.child.path,
            NEXUS_GENERATION = self.child.generation,
            MESSAGE_ID = catalogue::VM_RESTART_CALLED_OFF,
            "VM {} is not started again: {why}",
            self.vm.name,
        );
    }
}
