//! The store's actor.
//!
//! Owns the only connection to the database, on a thread of its own, because SQLite blocks. Supervised by the root, with
//! rest_for_one: everything that trusts what it wrote is started again after it. A crash loses nothing: each call is one
//! transaction, and a caller whose call was cut off gets an error.

use std::{path::PathBuf, time::Duration};

use nexus_model::{
    ErrorKind,
    restart::{Backoff, Intensity},
};
use nexus_store::{Bounds, Store};
use ractor::{
    ActorProcessingErr, ActorRef,
    thread_local::{ThreadLocalActor, ThreadLocalActorSpawner},
};
use tokio::sync::watch;

use crate::{
    Error,
    ask::{Reply, ask_now_within, ask_within},
    supervisor::{ActorSlot, ChildContext, ChildSpec, GiveUp, Lease},
};

/// How long a call may take once the store's actor is up.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the end of the daemon waits for those who follow what is written.
const FAREWELL: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(2), jitter: 0.2 };
const INTENSITY: Intensity = Intensity { max: 3, window: Duration::from_secs(30) };

/// What errors call it.
const NAME: &str = "the store";

type Work = Box<dyn FnOnce(&mut Store) + Send>;

/// The one thing that can be asked of the store's actor: to run a piece of work on the store.
pub(crate) struct StoreMessage(Work);

/// How much was written so far, for whoever follows that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    writes: u64,
    last: bool,
}

impl Written {
    /// Whether this daemon writes nothing more that is to be told.
    #[must_use]
    pub const fn is_last(self) -> bool {
        self.last
    }
}

/// Calls into the store from anywhere.
#[derive(Clone, Debug)]
pub(crate) struct StoreHandle {
    slot: ActorSlot<StoreMessage>,
    written: watch::Sender<Written>,
}

impl StoreHandle {
    pub(crate) fn new() -> Self {
        Self { slot: ActorSlot::new(), written: watch::Sender::new(Written::default()) }
    }

    /// Tells when something was written.
    pub(crate) fn written(&self) -> watch::Receiver<Written> {
        self.written.subscribe()
    }

    /// Says that nothing more is written that is to be told, and waits for a moment until whoever follows has told what
    /// there is: the store goes after that.
    pub(crate) async fn conclude(&self) {
        self.written.send_modify(|written| written.last = true);
        if tokio::time::timeout(FAREWELL, self.written.closed()).await.is_err() {
            tracing::debug!("somebody who follows what is written does not read it");
        }
    }

    /// Runs `work` on the store's thread, and waits for the store's next incarnation if there is none now. Not for actors:
    /// see [`call_now`](Self::call_now).
    pub(crate) async fn call<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Store) -> Result<T, nexus_store::Error> + Send + 'static,
    {
        answer(ask_within(DEADLINE, &self.slot, NAME, |reply| message(reply, work)).await)
    }

    /// As [`call`](Self::call), for an actor: it comes after the store in the tree, so there is no next incarnation of the
    /// store before this one of the actor has ended, and to wait for it would hold up everything.
    pub(crate) async fn call_now<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Store) -> Result<T, nexus_store::Error> + Send + 'static,
    {
        answer(ask_now_within(DEADLINE, &self.slot, NAME, |reply| message(reply, work)).await)
    }

    /// The actor as a child of the root.
    pub(crate) fn child_spec(&self, path: PathBuf, bounds: Bounds) -> ChildSpec {
        let written = self.written.clone();
        let spec = ChildSpec::new("store", move |child: ChildContext| {
            let arguments = Arguments { path: path.clone(), bounds, written: written.clone(), lease: child.lease };
            async move {
                let spawner = ThreadLocalActorSpawner::new();
                let (actor, _) = StoreActor::spawn_linked(None, arguments, child.supervisor, spawner).await?;
                Ok(actor.get_cell())
            }
        });
        ChildSpec { backoff: BACKOFF, intensity: INTENSITY, give_up: GiveUp::Escalate, ..spec.published_in(&self.slot) }
    }
}

fn message<T, F>(reply: Reply<T>, work: F) -> StoreMessage
where
    T: Send + 'static,
    F: FnOnce(&mut Store) -> Result<T, nexus_store::Error> + Send + 'static,
{
    StoreMessage(Box::new(move |store| {
        // Whoever gave up waiting believes that nothing happened.
        if reply.is_closed() {
            return;
        }
        let _ = reply.send(work(store).map_err(Error::from));
    }))
}

fn answer<T>(answered: Result<Result<T, Error>, Error>) -> Result<T, Error> {
    answered.map_err(|error| Error::caused(ErrorKind::StorageFailed, "the store does not answer", error))?
}

#[derive(Default)]
struct StoreActor;

struct Arguments {
    path: PathBuf,
    bounds: Bounds,
    written: watch::Sender<Written>,
    lease: Lease,
}

struct Opened {
    store: Store,
    written: watch::Sender<Written>,
    _lease: Lease,
}

impl ThreadLocalActor for StoreActor {
    type Msg = StoreMessage;
    type State = Opened;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<StoreMessage>,
        arguments: Arguments,
    ) -> Result<Opened, ActorProcessingErr> {
        let Arguments { path, bounds, written, lease } = arguments;
        Ok(Opened { store: Store::open(&path)?.keeping(bounds), written, _lease: lease })
    }

    async fn handle(
        &self,
        _myself: ActorRef<StoreMessage>,
        StoreMessage(work): StoreMessage,
        state: &mut Opened,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.store");
        let before = state.store.changes();
        work(&mut state.store);
        if state.store.changes() != before {
            state.written.send_modify(|written| written.writes += 1);
        }
        Ok(())
    }
}
