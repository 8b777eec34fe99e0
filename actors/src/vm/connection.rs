//! The actor of the connection to a guest's agent.
//!
//! Owns the control connection: its [`Dialer`] dials while the VM runs, answers for the heartbeat, and hands the way to the
//! agent to whoever runs a command. Supervised beside the VM's other connections, after the machine. A lost connection is a
//! domain failure: it dials again for as long as the VM runs. A crash of the actor loses the connection and nothing else:
//! commands go on in the guest, and their streams are the clients' own.

use std::sync::Arc;

use nexus_model::{ConnectionState, ErrorKind};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{VmContext, dialer::Dialer};
use crate::{
    Engine, Error, Place,
    ask::Reply,
    supervisor::{ChildContext, ChildSpec},
};

/// Number of the agent's connection within its VM.
pub(super) const AGENT: u32 = 1;

/// What the connection's actor is told.
pub(crate) enum ConnectionMessage {
    /// Hang up; answers when that is done.
    Close(Reply<()>),
    /// The task has ended, which it never does by itself, as it says.
    TaskEnded,
}

/// The actor as a child of the supervisor of its VM's connections.
pub(super) fn child_spec(engine: &Engine, vm: &Arc<VmContext>) -> ChildSpec {
    let (engine, slot) = (engine.clone(), vm.connection.clone());
    let vm = vm.clone();
    ChildSpec::new(Place::connection_name(AGENT), move |child: ChildContext| {
        let (engine, vm) = (engine.clone(), vm.clone());
        async move { child.clone().spawn(ConnectionActor, Arguments { engine, vm, child }).await }
    })
    .published_in(&slot)
}

struct ConnectionActor;

struct Arguments {
    engine: Engine,
    vm: Arc<VmContext>,
    child: ChildContext,
}

struct State {
    vm: Arc<VmContext>,
    closings: mpsc::UnboundedSender<Reply<()>>,
    _task: AbortOnDropHandle<()>,
    _child: ChildContext,
}

impl Actor for ConnectionActor {
    type Msg = ConnectionMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ConnectionMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { engine, vm, child } = arguments;
        let (closings, to_close) = mpsc::unbounded_channel();
        let dialer = Dialer::new(engine, vm.clone(), child.clone(), to_close);
        // There from the first moment, so that whoever made the VM finds it whole.
        dialer.show(ConnectionState::Parked);
        let task = AbortOnDropHandle::new(tokio::spawn(dialer.run()));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = task.await;
            let _ = myself.send_message(ConnectionMessage::TaskEnded);
        }));
        Ok(State { vm, closings, _task: task, _child: child })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ConnectionMessage>,
        message: ConnectionMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConnectionMessage::Close(reply) => {
                let refused = if state.vm.agent.borrow().is_some() {
                    state.closings.send(reply).err().map(|unsent| unsent.0)
                } else {
                    Some(reply)
                };
                if let Some(reply) = refused {
                    let _ = reply.send(Err(not_open()));
                }
                Ok(())
            }
            ConnectionMessage::TaskEnded => Err("the task of the connection has ended".into()),
        }
    }
}

pub(super) fn not_open() -> Error {
    Error::new(ErrorKind::InvalidState, "the connection is not open: see its `State`")
}
