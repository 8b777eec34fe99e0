//! Guests that are about to stand still, or have stood still.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::vm::VmState;
use nexus_protocol::Features;
use tracing::{debug, warn};

use super::VmContext;
use crate::Engine;

/// How long the commands of a guest have to come to a stop before its virtual CPUs do.
const FREEZE: Duration = Duration::from_secs(2);
/// How long a guest has to put its clock right before it is let go on without.
const REFRESH: Duration = Duration::from_secs(5);

/// Between two looks whether a guest that stands still goes on.
const LOOK: Duration = Duration::from_millis(100);

/// A guest that gets no new calls, for as long as this is there.
pub(super) struct Closed(Arc<VmContext>);

impl Closed {
    pub(super) fn new(vm: &Arc<VmContext>) -> Self {
        vm.closed.store(true, Ordering::Relaxed);
        Self(vm.clone())
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed.store(false, Ordering::Relaxed);
    }
}

/// Whether the virtual CPUs of a guest stand still, or are about to: it can't answer and need not.
pub(super) fn stands_still(engine: &Engine, vm: &VmContext) -> bool {
    let picture = engine.board.vms().get(&vm.name);
    vm.closed.load(Ordering::Relaxed) || picture.is_some_and(|vm| vm.lifecycle.state() == VmState::Paused)
}

/// Until the guest goes on, if it stands still. It would answer none of those who dial, and its vsock device would keep
/// them all.
pub(super) async fn over(engine: &Engine, vm: &VmContext) {
    while stands_still(engine, vm) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Has the guest's commands stand still, if it can. They can't be told how late it is before they go on otherwise.
pub(super) async fn freeze(vm: &VmContext) {
    let Some(agent) = able(vm) else { return };
    match agent.freeze(FREEZE).await {
        Ok(()) | Err(AgentError::Gone(_)) => {}
        Err(error) => {
            let text = crate::Error::from(error).text();
            debug!(NEXUS_VM = %vm.name, "not all commands of VM {} stand still before it does: {text}", vm.name);
        }
    }
}

/// Puts the clock of a guest right that goes on, if it can, and lets its commands go on. Nobody waits for it longer than
/// that is worth.
pub(super) async fn thaw(vm: &VmContext) {
    if let Some(agent) = able(vm) {
        refresh(vm, &agent).await;
    }
}

/// As [`thaw`], through an agent that is not offered to anybody yet.
pub(super) async fn refresh(vm: &VmContext, agent: &AgentClient) {
    if !agent.has(Features::CLOCK) {
        return;
    }
    match agent.refresh(REFRESH).await {
        Ok(refreshed) if refreshed.stepped_us != 0 => {
            let milliseconds = refreshed.stepped_us / 1000;
            debug!(NEXUS_VM = %vm.name, "the clock of VM {} was put right by {milliseconds} ms", vm.name);
        }
        // Of a connection that is gone is told elsewhere, and the next one begins with this.
        Ok(_) | Err(AgentError::Gone(_)) => {}
        Err(error) => {
            let text = crate::Error::from(error).text();
            warn!(NEXUS_VM = %vm.name, "the clock of VM {} may be wrong: {text}", vm.name);
        }
    }
}

fn able(vm: &VmContext) -> Option<AgentClient> {
    vm.agent.borrow().clone().filter(|agent| agent.has(Features::CLOCK))
}
