//! The actor of a connection that is kept for as long as its VM lives.
//!
//! Owns the task that keeps it: that of the control connection to the agent, which its [`Dialer`] dials while the VM runs,
//! or those that are there before anybody wants them ([`spare`](super::spare)). Each is supervised beside the VM's other
//! connections, after the machine. A lost connection is a domain failure: it is dialled again for as long as the VM runs. A crash
//! of the actor loses the connection and nothing else: commands go on in the guest, and their streams are the clients' own.

use std::{future::Future, pin::Pin, sync::Arc};

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

/// The control connection's actor as a child of the supervisor of its VM's connections.
pub(super) fn child_spec(engine: &Engine, vm: &Arc<VmContext>) -> ChildSpec {
    let (engine, slot) = (engine.clone(), vm.connection.clone());
    let vm = vm.clone();
    ChildSpec::new(Place::connection_name(AGENT), move |child: ChildContext| {
        let (engine, vm) = (engine.clone(), vm.clone());
        async move {
            let (closings, to_close) = mpsc::unbounded_channel();
            let dialer = Dialer::new(engine, vm.clone(), child.clone(), to_close);
            // There from the first moment, so that whoever made the VM finds it whole.
            dialer.show(ConnectionState::Parked);
            let is_open = Box::new(move || vm.agent.borrow().is_some());
            child
                .clone()
                .spawn(ConnectionActor, Keeping { task: Box::pin(dialer.run()), is_open, closings, child })
                .await
        }
    })
    .published_in(&slot)
}

/// The actor, whichever connection it is that it keeps.
pub(super) struct ConnectionActor;

/// What such an actor owns.
pub(super) struct Keeping {
    /// Keeps the connection, for ever.
    pub(super) task: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether there is anything to close.
    pub(super) is_open: Box<dyn Fn() -> bool + Send + Sync>,
    /// How the task hears that it is to hang up.
    pub(super) closings: mpsc::UnboundedSender<Reply<()>>,
    pub(super) child: ChildContext,
}

pub(super) struct State {
    is_open: Box<dyn Fn() -> bool + Send + Sync>,
    closings: mpsc::UnboundedSender<Reply<()>>,
    _task: AbortOnDropHandle<()>,
    _child: ChildContext,
}

impl Actor for ConnectionActor {
    type Msg = ConnectionMessage;
    type State = State;
    type Arguments = Keeping;

    async fn pre_start(
        &self,
        myself: ActorRef<ConnectionMessage>,
        keeping: Keeping,
    ) -> Result<State, ActorProcessingErr> {
        let Keeping { task, is_open, closings, child } = keeping;
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = task.await;
            let _ = myself.send_message(ConnectionMessage::TaskEnded);
        }));
        Ok(State { is_open, closings, _task: task, _child: child })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ConnectionMessage>,
        message: ConnectionMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConnectionMessage::Close(reply) => {
                let refused = if (state.is_open)() {
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
