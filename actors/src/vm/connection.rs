//! The actor of a connection that is kept for as long as its VM lives.
//!
//! Owns the task that keeps it: that of the control connection to the agent, which its [`Dialer`] dials while the VM runs,
//! or a spare one ([`spare`](super::spare)). Each is supervised beside the VM's other
//! connections, after the machine. A lost connection is a domain failure: it is dialled again for as long as the VM runs. A crash
//! of the actor loses the connection and nothing else: commands go on in the guest, and their streams are the clients' own.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use nexus_model::{ConnectionState, ErrorKind};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
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
    let (engine, slot, vm) = (engine.clone(), vm.connection.clone(), vm.clone());
    let start = move |child: ChildContext| {
        let (engine, vm) = (engine.clone(), vm.clone());
        start(child.clone(), |closings| {
            let dialer = Dialer::new(engine, vm, child);
            // There from the first moment, so that whoever made the VM finds it whole.
            dialer.show(ConnectionState::Parked);
            dialer.run(closings)
        })
    };
    ChildSpec::new(Place::connection_name(AGENT), start).published_in(&slot)
}

/// Starts the actor of a connection that `keep` keeps, for ever. It answers who wants it closed.
pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
    child: ChildContext,
    keep: impl FnOnce(Closings) -> F,
) -> impl Future<Output = Result<ActorCell, SpawnErr>> + Send {
    let (sender, closings) = mpsc::unbounded_channel();
    let keeping = Keeping { task: Box::pin(keep(Closings(closings))), closings: sender, child: child.clone() };
    async move { child.spawn(ConnectionActor, keeping).await }
}

/// Who wants a connection closed.
pub(super) struct Closings(mpsc::UnboundedReceiver<Reply<()>>);

impl Closings {
    /// The next one.
    pub(super) async fn next(&mut self) -> Reply<()> {
        match self.0.recv().await {
            Some(reply) => reply,
            // The actor is gone, and this task about to be.
            None => std::future::pending().await,
        }
    }

    /// Does something while there is nothing to close.
    pub(super) async fn refused_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                // First, since whoever has come by now does not mean what this makes.
                biased;
                reply = self.next() => drop(reply.send(Err(not_open()))),
                done = &mut work => return done,
            }
        }
    }
}

/// The actor, whichever connection it is that it keeps.
struct ConnectionActor;

struct Keeping {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    closings: mpsc::UnboundedSender<Reply<()>>,
    child: ChildContext,
}

struct State {
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
        let Keeping { task, closings, child } = keeping;
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = task.await;
            let _ = myself.send_message(ConnectionMessage::TaskEnded);
        }));
        Ok(State { closings, _task: task, _child: child })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ConnectionMessage>,
        message: ConnectionMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConnectionMessage::Close(reply) => {
                if let Err(unsent) = state.closings.send(reply) {
                    let _ = unsent.0.send(Err(not_open()));
                }
                Ok(())
            }
            ConnectionMessage::TaskEnded => Err("the task of the connection has ended".into()),
        }
    }
}

fn not_open() -> Error {
    Error::new(ErrorKind::InvalidState, "the connection is not open: see its `State`")
}
