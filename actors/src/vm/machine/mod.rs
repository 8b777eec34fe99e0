//! The actor that owns a VM's VMM.
//!
//! Owns the VM's row, its state and the watch for the end of its VMM; holds at most one operation (start, stop, pause,
//! resume) at a time, each in a task of its own. Only what is left of a run is cleared away between two messages, which
//! takes milliseconds while the user manager answers. Supervised by its VM's supervisor, before the connections. A crash
//! of it leaves the VMM alone: its next incarnation reads the row, looks at the machine and adopts what it finds
//! ([`recover`](self)). Lost is only the operation that was under way, which is finished or undone from the row; its
//! callers get an error.

mod end;
mod journal;
mod launch;
mod message;
mod operation;
mod picture;
mod recover;
mod settings;
mod state;
mod stop;

use std::sync::Arc;

pub(crate) use end::Next;
pub(crate) use message::MachineMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use state::Machine;

use super::VmContext;
use crate::{
    Engine, place,
    supervisor::{ChildContext, ChildSpec},
};

/// The actor as a child of its VM's supervisor.
pub(super) fn child_spec(engine: &Engine, vm: &Arc<VmContext>) -> ChildSpec {
    let (engine, slot) = (engine.clone(), vm.machine.clone());
    let vm = vm.clone();
    ChildSpec::new(place::MACHINE, move |child: ChildContext| {
        let (engine, vm) = (engine.clone(), vm.clone());
        async move { child.clone().spawn(MachineActor, Arguments { engine, vm, child }).await }
    })
    .published_in(&slot)
}

struct MachineActor;

struct Arguments {
    engine: Engine,
    vm: Arc<VmContext>,
    child: ChildContext,
}

impl Actor for MachineActor {
    type Msg = MachineMessage;
    type State = Machine;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MachineMessage>,
        arguments: Arguments,
    ) -> Result<Machine, ActorProcessingErr> {
        let Arguments { engine, vm, child } = arguments;
        Ok(Machine::load(myself, engine, vm, child).await?)
    }

    async fn post_start(
        &self,
        _myself: ActorRef<MachineMessage>,
        machine: &mut Machine,
    ) -> Result<(), ActorProcessingErr> {
        Ok(machine.recover().await?)
    }

    async fn handle(
        &self,
        _myself: ActorRef<MachineMessage>,
        message: MachineMessage,
        machine: &mut Machine,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.machine");
        Ok(machine.handle(message).await?)
    }
}
