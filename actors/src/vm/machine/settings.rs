//! Settings that may be changed at any time, and what is forgotten when somebody says so.

use nexus_model::{
    ErrorKind, EventKind,
    vm::{Desired, Reason, VmState},
};
use nexus_store::{NewEvent, VmRow};

use super::{end::rests, journal::journal, state::Machine};
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
        let changes = spec != self.row.spec;
        let unwanted = self.restart_timer.is_some() && !self.restart_is_due_under(spec.restart_policy);
        let why = format!("its restart policy is `{}` now", spec.restart_policy);
        let event = changes.then(|| NewEvent {
            from: before.clone(),
            to: after.clone(),
            reason: name.to_owned(),
            ..self.event(EventKind::VmChanged)
        });
        let events = event.into_iter().collect();
        let stored = if unwanted {
            let change = |row: &mut VmRow| {
                row.spec = spec;
                rests(row);
            };
            self.without_restart(origin, name, &why, events, change).await
        } else {
            self.commit_telling(events, "", |row| row.spec = spec).await
        };
        if stored.is_ok() && changes {
            self.tell_changed(origin, name, &before, &after);
        }
        let _ = reply.send(stored);
        Ok(())
    }

    fn tell_changed(&self, origin: &Origin, setting: &str, before: &str, after: &str) {
        journal!(
            info,
            self,
            NEXUS_REQUEST = %origin.request,
            DBUS_SENDER = origin.sender,
            MESSAGE_ID = catalogue::VM_CHANGED,
            NEXUS_SETTING = setting,
            NEXUS_BEFORE = before,
            NEXUS_AFTER = after,
            "the {setting} of VM {} is `{after}`, and was `{before}`",
            self.vm.name,
        );
    }

    /// [`MachineMessage::ResetFailed`](super::MachineMessage::ResetFailed).
    pub(super) async fn reset_failed(&mut self, origin: &Origin, reply: Reply<()>) -> Result<(), Error> {
        self.asked(origin, "to be forgiven");
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
            let stored = self.commit("", |row| row.recent_failures.clear()).await;
            if stored.is_ok() {
                self.failures.reset();
            }
            let _ = reply.send(stored);
        }
        Ok(())
    }
}
