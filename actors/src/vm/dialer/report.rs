//! What is said of a guest: in the journal, and what matters for the story of its VM in the history, too.

use std::fmt;

use nexus_model::{EventKind, Health};
use nexus_store::{NewEvent, VmOf};
use tracing::{info, warn};

use super::Dialer;
use crate::{catalogue, vm::machine::MachineMessage};

impl Dialer {
    /// A guest that answers.
    pub(super) fn report_answer(&mut self) {
        info!(
            NEXUS_VM = %self.vm.name,
            NEXUS_ACTOR = self.child.path,
            NEXUS_GENERATION = self.child.generation,
            "the guest agent of VM {} answered",
            self.vm.name,
        );
        if self.told.take().is_some() {
            self.tell_history(EventKind::GuestBack, String::new());
        }
    }

    /// A guest that has never answered.
    pub(super) fn report_silent(&mut self, why: &str) {
        if self.silent.is_news(why) {
            self.warn(format_args!("the guest agent of VM {} has not answered yet: {why}", self.vm.name));
        }
    }

    /// A guest does not keep to the protocol.
    pub(super) fn report_breach(&mut self, how: &str) {
        if self.breach.is_news(how) {
            let name = &self.vm.name;
            self.warn(format_args!("the guest agent of VM {name} does not keep to the protocol: {how}"));
        }
    }

    /// Nobody can use the guest, for the reason that is known.
    pub(super) async fn report_unusable(&mut self, run: u64, health: Health) {
        self.child.reporter.set_health(health);
        let why = self.failure.clone().unwrap_or_default();
        let is_new = self.told.replace(health).is_none();
        if self.unusable.is_news(&why) || is_new {
            warn!(
                NEXUS_VM = %self.vm.name,
                NEXUS_ACTOR = self.child.path,
                NEXUS_GENERATION = self.child.generation,
                MESSAGE_ID = catalogue::GUEST_UNREACHABLE,
                "the guest of VM {} can't be used: {why}",
                self.vm.name,
            );
        }
        if is_new {
            self.tell_history(EventKind::GuestUnreachable, why);
        }
        self.tell(MachineMessage::GuestDown { run, unusable: true }).await;
    }

    fn warn(&self, what: fmt::Arguments<'_>) {
        warn!(
            NEXUS_VM = %self.vm.name,
            NEXUS_ACTOR = self.child.path,
            NEXUS_GENERATION = self.child.generation,
            "{what}",
        );
    }

    fn tell_history(&self, kind: EventKind, detail: String) {
        let vm = Some(VmOf { name: self.vm.name.clone(), id: Some(self.vm.id) });
        self.engine.recorder.event(NewEvent { vm, detail, ..NewEvent::now(kind, format!("vm/{}", self.vm.name)) });
    }
}
