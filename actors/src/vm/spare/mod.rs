//! Spare connections: those that are there before anybody wants them.
//!
//! One to each of the agent's ports is opened as soon as the agent answers, and kept ([keeper]): whoever wants a stream has the
//! one that is there, and the next is opened at once. What was given away is a [stream](super::stream) of its own.

mod keeper;

use std::sync::Arc;

use nexus_host::agent::SpareKind;
use nexus_model::{ConnectionKind, ConnectionState};

use self::keeper::Keeper;
use super::{
    VmContext,
    connection::{self, AGENT, ConnectionMessage},
    statistics::Statistics,
};
use crate::{
    Engine, Place,
    supervisor::{ActorSlot, ChildContext, ChildSpec},
};

/// The first number of a connection that was given away: those before are kept.
pub(crate) const FIRST_STREAM: u32 = AGENT + 5;
const _: () = assert!(SpareKind::ALL.len() == 4, "each has a number of its own");

/// What outlives the actor of one.
#[derive(Debug)]
pub(super) struct SpareContext {
    pub(super) kind: SpareKind,
    pub(super) slot: ActorSlot<ConnectionMessage>,
    pub(super) statistics: Statistics,
}

impl SpareContext {
    /// Those of a VM, in the order of their numbers.
    pub(super) fn all() -> [Arc<Self>; SpareKind::ALL.len()] {
        SpareKind::ALL.map(|kind| Arc::new(Self { kind, slot: ActorSlot::new(), statistics: Statistics::default() }))
    }

    /// Its number within its VM.
    pub(super) const fn number(&self) -> u32 {
        match self.kind {
            SpareKind::Tools => AGENT + 1,
            SpareKind::Terminal => AGENT + 2,
            SpareKind::Bulk => AGENT + 3,
            SpareKind::Stdio => AGENT + 4,
        }
    }

    const fn shown_as(&self) -> ConnectionKind {
        match self.kind {
            SpareKind::Tools => ConnectionKind::Tools,
            SpareKind::Terminal => ConnectionKind::Terminal,
            SpareKind::Bulk => ConnectionKind::Bulk,
            SpareKind::Stdio => ConnectionKind::Stdio,
        }
    }
}

/// The actors as children of the supervisor of their VM's connections.
pub(super) fn child_specs(engine: &Engine, vm: &Arc<VmContext>) -> impl Iterator<Item = ChildSpec> {
    vm.spares.iter().map(|spare| child_spec(engine, vm, spare))
}

fn child_spec(engine: &Engine, vm: &Arc<VmContext>, spare: &Arc<SpareContext>) -> ChildSpec {
    let (name, slot) = (Place::connection_name(spare.number()), spare.slot.clone());
    let (engine, vm, spare) = (engine.clone(), vm.clone(), spare.clone());
    let start = move |child: ChildContext| {
        let (engine, vm, spare) = (engine.clone(), vm.clone(), spare.clone());
        connection::start(child.clone(), |closings| {
            let keeper = Keeper::new(engine, vm, spare, child, closings);
            keeper.show(ConnectionState::Parked);
            keeper.run()
        })
    };
    ChildSpec::new(name, start).published_in(&slot)
}
