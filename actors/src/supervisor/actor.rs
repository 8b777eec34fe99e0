//! The supervisor as an actor.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use super::{Lease, RootEnd, StatusBoard, SupervisorConfig, SupervisorMessage, ending::Occurrence, state::State};

/// Starts, watches and restarts its children.
///
/// It owns nothing but them. Its own supervisor restarts it like any actor, with the children that its configuration then
/// names; children that were added by request are lost with it. When it is killed, ractor kills the children.
#[derive(Clone, Copy, Debug)]
pub struct Supervisor;

/// What a [`Supervisor`] is started with, by [`Root::spawn`](super::Root::spawn) or
/// [`ChildContext::spawn_supervisor`](super::ChildContext::spawn_supervisor).
pub struct SupervisorArguments {
    pub(super) path: String,
    pub(super) config: SupervisorConfig,
    pub(super) board: StatusBoard,
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) end: Option<oneshot::Sender<RootEnd>>,
}

/// The error a supervisor ends with when one of its children has more faults than it may, and
/// [escalates](super::GiveUp::Escalate).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` had {faults} faults within {} s, the last one: {reason}", window.as_secs_f64())]
pub struct GaveUp {
    /// The child.
    pub path: String,
    /// How many faults it had within `window`.
    pub faults: usize,
    /// The time in which they are counted.
    pub window: Duration,
    /// The last one.
    pub reason: String,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = State;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(State::new(myself, arguments)?)
    }

    async fn post_start(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.begin();
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.supervisor");
        match message {
            SupervisorMessage::Start(spec, reply) => state.start(*spec, reply),
            SupervisorMessage::Remove { name, reply } => state.remove(&name, reply),
            SupervisorMessage::Restart { name, reply } => state.restart(&name, reply),
            SupervisorMessage::Reset { name, reply } => state.reset(&name, reply),
            SupervisorMessage::Shutdown { reply } => state.shutdown(reply),
            SupervisorMessage::Internal(internal) => state.internal(internal),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((actor, occurrence)) = Occurrence::of(event) {
            state.observe(&actor, occurrence);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.end().map_err(Into::into)
    }
}
