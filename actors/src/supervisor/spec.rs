//! What a supervisor is told: its strategy, its children, and what each of them is worth.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use nexus_model::{
    Health,
    restart::{Backoff, Intensity},
};
use ractor::{ActorCell, Message, SpawnErr};

use super::{ActorSlot, AnySlot, ChildContext};

/// What a [`StartFn`] returns: the actor it spawned, linked to [`ChildContext::supervisor`].
pub type StartFuture = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// Spawns one incarnation of a child. Called again for every restart, each time with a new [`ChildContext`].
///
/// It runs in a task of its own, so it may await, fail, hang or panic without harm to the supervisor; dropping the
/// future (at [`ChildSpec::start_timeout`], or when the child is removed meanwhile) must leave nothing behind. It links
/// exactly one actor to the supervisor: the one it returns.
pub type StartFn = Arc<dyn Fn(ChildContext) -> StartFuture + Send + Sync>;

/// How a supervisor treats the siblings of a child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Siblings know nothing of each other: only the child that ended is started again.
    OneForOne,
    /// Later siblings depend on earlier ones: they are stopped in reverse order before the child is started again, and
    /// started in order after it.
    RestForOne,
}

impl Strategy {
    /// The word the bus shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one-for-one",
            Self::RestForOne => "rest-for-one",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a child that ended unasked is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always; even a normal stop is a fault.
    Permanent,
    /// After a fault; after a normal stop the child is forgotten.
    Transient,
    /// Never: the child is forgotten however it ended, also when a sibling's fault ends it.
    Temporary,
}

/// What follows when a child has more faults than its [`Intensity`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The supervisor stops its other children in reverse order and fails towards its own supervisor, naming the child.
    Escalate,
    /// The child stays down with this health until a [`Reset`](super::SupervisorMessage::Reset) or a
    /// [`Restart`](super::SupervisorMessage::Restart).
    Mark(Health),
    /// The child shows this health and is tried again this often, for ever. Only after it was up for a whole
    /// [`Intensity::window`] does it get its quick restarts back.
    Retry {
        /// The wait between two tries.
        every: Duration,
        /// The health in between.
        health: Health,
    },
}

/// One child: how it is started, and what happens when it ends.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name among its siblings, without a `/`. With the supervisor's path before it, it is the child's path.
    pub name: String,
    /// Spawns an incarnation.
    pub start: StartFn,
    /// How long an incarnation may take until its `post_start` has returned; then it is killed, which is a fault.
    pub start_timeout: Duration,
    /// When it is started again.
    pub restart: Restart,
    /// The wait before it is started again after a fault.
    pub backoff: Backoff,
    /// How many faults within which time are too many.
    pub intensity: Intensity,
    /// What follows then.
    pub give_up: GiveUp,
    /// How long an incarnation gets for each step of its end: to stop when asked, to die when killed, and to let go of
    /// its [`Lease`](super::Lease) when dead.
    pub shutdown: Duration,
    /// The number of the first incarnation. A higher number that the status board knows for this path wins.
    pub generation: u64,
    /// Where its current incarnation is published while it is up.
    pub slot: Option<AnySlot>,
}

impl ChildSpec {
    /// A permanent child with middling values: 30 s to start, 100 ms to 30 s of back-off with ±20 % jitter, five faults
    /// in 60 s, then failed and tried every 60 s; 5 s for each step of its end; first generation 1.
    pub fn new<F, Fut>(name: impl Into<String>, start: F) -> Self
    where
        F: Fn(ChildContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self {
            name: name.into(),
            start: Arc::new(move |context| Box::pin(start(context))),
            start_timeout: Duration::from_secs(30),
            restart: Restart::Permanent,
            backoff: Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(30), jitter: 0.2 },
            intensity: Intensity { max: 5, window: Duration::from_secs(60) },
            give_up: GiveUp::Retry { every: Duration::from_secs(60), health: Health::Failed },
            shutdown: Duration::from_secs(5),
            generation: 1,
            slot: None,
        }
    }

    /// A supervisor as a child, whose configuration `configure` makes anew for every incarnation. It escalates when it
    /// gives up, and gets a minute for each step of its end, because its children end in turn within that time.
    pub fn supervisor<F, Fut>(name: impl Into<String>, configure: F) -> Self
    where
        F: Fn(ChildContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SupervisorConfig, SpawnErr>> + Send + 'static,
    {
        let configure = Arc::new(configure);
        let start = move |context: ChildContext| {
            let configure = Arc::clone(&configure);
            async move {
                let config = configure(context.clone()).await?;
                context.spawn_supervisor(config).await
            }
        };
        Self { give_up: GiveUp::Escalate, shutdown: Duration::from_secs(60), ..Self::new(name, start) }
    }

    /// Publishes the current incarnation in `slot` while it is up.
    #[must_use]
    pub fn published_in<M: Message>(mut self, slot: &ActorSlot<M>) -> Self {
        self.slot = Some(slot.into());
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .field("give_up", &self.give_up)
            .finish_non_exhaustive()
    }
}

/// What a supervisor starts with.
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// How siblings hang together.
    pub strategy: Strategy,
    /// The children it starts with, in order. Names must differ.
    pub children: Vec<ChildSpec>,
}
