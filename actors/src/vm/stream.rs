//! The actor of a stream that was handed to a client.
//!
//! Owns nothing of it: the stream goes from the client to the guest, and the agent alone sees what it carries and when it
//! ends. This shows it on the bus until then, and asks the agent again whenever it is connected to anew. The supervisor of the
//! VM's connections starts it again after any fault, with nothing lost: what is known of the stream is kept beside it, in
//! [`Streams`](super::streams::Streams). Its end is the stream's, for good.

use std::{sync::Arc, time::Duration};

use nexus_host::agent::AgentError;
use nexus_model::{ConnectionState, Direction, Health};
use nexus_protocol::FailureKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Power, VmContext,
    context::{CONNECTION_BACKOFF, CONNECTION_INTENSITY, CONNECTION_RETRY},
    streams::Stream,
};
use crate::{
    Engine, Place,
    snapshot::ConnectionSnapshot,
    supervisor::{ChildContext, ChildSpec, GiveUp, Restart},
};

/// Before an agent is asked again that was lost, or that has too much to do.
const PAUSE: Duration = Duration::from_millis(500);

/// What the actor of a stream is told.
pub(crate) enum StreamMessage {
    /// The stream has ended.
    Ended,
    /// The task that waits for that has ended without it.
    TaskFailed,
}

/// The actor as a child of the supervisor of its VM's connections.
pub(super) fn child_spec(engine: &Engine, vm: &Arc<VmContext>, stream: &Arc<Stream>) -> ChildSpec {
    let name = Place::connection_name(stream.number);
    let (engine, vm, stream) = (engine.clone(), vm.clone(), stream.clone());
    let spec = ChildSpec::new(name, move |child: ChildContext| {
        let arguments =
            Arguments { engine: engine.clone(), vm: vm.clone(), stream: stream.clone(), child: child.clone() };
        async move { child.spawn(StreamActor, arguments).await }
    });
    ChildSpec {
        restart: Restart::Transient,
        backoff: CONNECTION_BACKOFF,
        intensity: CONNECTION_INTENSITY,
        give_up: GiveUp::Retry { every: CONNECTION_RETRY, health: Health::Failed },
        ..spec
    }
}

struct StreamActor;

struct Arguments {
    engine: Engine,
    vm: Arc<VmContext>,
    stream: Arc<Stream>,
    child: ChildContext,
}

struct State {
    engine: Engine,
    vm: Arc<VmContext>,
    number: u32,
    _task: AbortOnDropHandle<()>,
    _child: ChildContext,
}

impl Actor for StreamActor {
    type Msg = StreamMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<StreamMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { engine, vm, stream, child } = arguments;
        let number = stream.number;
        // One that a restart of its supervisor brought back may have ended meanwhile.
        if vm.streams.find(number).is_some() {
            engine.board.publish_connection((vm.name.clone(), number), picture(&vm, &stream));
        }
        let waiting = AbortOnDropHandle::new(tokio::spawn(end(vm.clone(), stream)));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let message = match waiting.await {
                Ok(()) => StreamMessage::Ended,
                Err(_) => StreamMessage::TaskFailed,
            };
            let _ = myself.send_message(message);
        }));
        Ok(State { engine, vm, number, _task: task, _child: child })
    }

    async fn handle(
        &self,
        myself: ActorRef<StreamMessage>,
        message: StreamMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StreamMessage::Ended => {
                state.engine.forget_stream(&state.vm, state.number);
                myself.stop(None);
                Ok(())
            }
            StreamMessage::TaskFailed => Err("the task of the stream has ended".into()),
        }
    }
}

/// Until the stream has ended: with its VM, with its agent, or by itself.
async fn end(vm: Arc<VmContext>, stream: Arc<Stream>) {
    nexus_model::failpoint("actor.stream");
    let mut power = vm.power.subscribe();
    tokio::select! {
        () = end_in_guest(&vm, &stream) => {}
        _ = power.wait_for(|power| *power == Power::Off) => {}
    }
}

async fn end_in_guest(vm: &VmContext, stream: &Stream) {
    let mut agents = vm.agent.subscribe();
    loop {
        let agent = match agents.wait_for(Option::is_some).await {
            Ok(agent) => agent.clone(),
            Err(_) => return,
        };
        let Some(agent) = agent.filter(|agent| agent.run_id() == stream.seen.run_id) else { return };
        match agent.wait_stream(stream.seen.stream).await {
            Err(AgentError::Gone(_) | AgentError::Busy { .. }) => {}
            Err(AgentError::Failed(failure)) if failure.kind == FailureKind::Exhausted => {}
            Ok(()) | Err(_) => return,
        }
        sleep(PAUSE).await;
    }
}

fn picture(vm: &VmContext, stream: &Stream) -> ConnectionSnapshot {
    let Stream { number, seen } = stream;
    ConnectionSnapshot {
        vm: vm.name.clone(),
        number: *number,
        port: seen.port,
        kind: seen.kind,
        direction: Direction::Outbound,
        state: ConnectionState::Open,
        owner: seen.owner.clone(),
        host_path: seen.host_path.clone(),
        opened_at: seen.opened_at,
        failure: None,
    }
}
