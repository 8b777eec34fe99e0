//! An actor that does what a test tells it to, and the tree around it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use nexus_actors::supervisor::{
    ActorSlot, ChildContext, ChildSpec, ChildStatus, GiveUp, Lease, Reporter, RequestError, Root, RootEnd, StatusBoard,
    StatusChange, Strategy, SupervisorConfig, SupervisorMessage,
};
use nexus_model::{
    Health,
    restart::{Backoff, Intensity},
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use tokio::{sync::mpsc, time::Instant};

/// The longest any test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

/// What an incarnation does at one point of its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Fine,
    Panic,
    Fail,
    Hang,
}

impl Mode {
    async fn act(self, at: &'static str) -> Result<(), ActorProcessingErr> {
        match self {
            Self::Fine => Ok(()),
            Self::Panic => panic!("panic in {at}"),
            Self::Fail => Err(format!("error in {at}").into()),
            Self::Hang => std::future::pending().await,
        }
    }
}

/// How the next incarnation behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) pre_start: Mode,
    pub(crate) post_start: Mode,
    pub(crate) post_stop: Mode,
    pub(crate) drop_panics: bool,
    pub(crate) reports: Option<Health>,
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `pre_start` was called.
    Started(String, u64),
    /// `post_start` has returned.
    Up(String, u64),
    /// `post_stop` was called.
    Stopped(String, u64),
    /// The state was dropped.
    Gone(String, u64),
    /// A test is about to ask for the removal.
    Removing(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(name, generation) => write!(f, "start {name}{generation}"),
            Self::Up(name, generation) => write!(f, "up {name}{generation}"),
            Self::Stopped(name, generation) => write!(f, "stop {name}{generation}"),
            Self::Gone(name, generation) => write!(f, "gone {name}{generation}"),
            Self::Removing(name) => write!(f, "removing {name}"),
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<(Instant, Event)>>>);

impl Journal {
    pub(crate) fn write(&self, event: Event) {
        self.0.lock().unwrap().push((Instant::now(), event));
    }

    /// Everything since the last call, with the time.
    pub(crate) fn take_timed(&self) -> Vec<(Instant, Event)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Everything since the last call.
    pub(crate) fn take(&self) -> Vec<Event> {
        self.take_timed().into_iter().map(|(_, event)| event).collect()
    }

    /// Everything since the last call, as words.
    pub(crate) fn words(&self) -> Vec<String> {
        self.take().iter().map(Event::to_string).collect()
    }

    /// Starts and stops since the last call, as words.
    pub(crate) fn starts_and_stops(&self) -> Vec<String> {
        let relevant = |event: &Event| matches!(event, Event::Started(..) | Event::Stopped(..));
        self.take().iter().filter(|event| relevant(event)).map(Event::to_string).collect()
    }
}

/// What a probe is told.
pub(crate) enum Do {
    Panic,
    Fail,
    /// Fails with an error that has a source, and a lot of text.
    FailAtLength,
    Stop,
    Hang,
    /// Answers, and blocks its thread until the sender is dropped.
    Block(std::sync::mpsc::Receiver<()>, RpcReplyPort<()>),
    Report(Health),
    CountFailure,
    /// Answers with its generation.
    Generation(RpcReplyPort<u64>),
    /// Hands out what it was given.
    Context(RpcReplyPort<(Lease, Reporter)>),
}

#[derive(Debug)]
struct Chained(std::io::Error);

impl fmt::Display for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Chained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// One child of a test: the same through all its incarnations.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) slot: ActorSlot<Do>,
    pub(crate) behaviour: Arc<Mutex<Behaviour>>,
    pub(crate) journal: Journal,
}

pub(crate) struct Life {
    probe: Probe,
    context: ChildContext,
    drop_panics: bool,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.probe.journal.write(Event::Gone(self.probe.name.to_owned(), self.context.generation));
        assert!(!self.drop_panics, "panic in drop");
    }
}

impl Probe {
    pub(crate) fn new(name: &'static str, journal: &Journal) -> Self {
        Self { name, slot: ActorSlot::new(), behaviour: Arc::default(), journal: journal.clone() }
    }

    /// Deterministic: back-off 1 s, 2 s, 4 s … 16 s; three faults in 60 s, then it stays down as `failed`.
    pub(crate) fn spec(&self) -> ChildSpec {
        let probe = self.clone();
        let spec = ChildSpec::new(self.name, move |context: ChildContext| {
            let probe = probe.clone();
            async move { context.spawn(probe, context.clone()).await }
        });
        ChildSpec {
            start_timeout: Duration::from_secs(20),
            backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(16), jitter: 0.0 },
            intensity: Intensity { max: 3, window: Duration::from_secs(60) },
            give_up: GiveUp::Mark(Health::Failed),
            shutdown: Duration::from_secs(5),
            ..spec
        }
        .published_in(&self.slot)
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// The current incarnation, or the next.
    pub(crate) async fn actor(&self) -> ActorRef<Do> {
        self.slot.current(PATIENCE).await.unwrap()
    }

    pub(crate) async fn tell(&self, what: Do) {
        self.actor().await.send_message(what).unwrap();
    }

    pub(crate) async fn generation(&self) -> u64 {
        ractor::call!(self.actor().await, Do::Generation).unwrap()
    }

    pub(crate) async fn context(&self) -> (Lease, Reporter) {
        ractor::call!(self.actor().await, Do::Context).unwrap()
    }
}

impl Actor for Probe {
    type Msg = Do;
    type State = Life;
    type Arguments = ChildContext;

    async fn pre_start(&self, _: ActorRef<Do>, context: ChildContext) -> Result<Life, ActorProcessingErr> {
        self.journal.write(Event::Started(self.name.to_owned(), context.generation));
        let behaviour = *self.behaviour.lock().unwrap();
        let life = Life { probe: self.clone(), context, drop_panics: behaviour.drop_panics };
        behaviour.pre_start.act("pre_start").await?;
        Ok(life)
    }

    async fn post_start(&self, _: ActorRef<Do>, life: &mut Life) -> Result<(), ActorProcessingErr> {
        let behaviour = *self.behaviour.lock().unwrap();
        if let Some(health) = behaviour.reports {
            life.context.reporter.set_health(health);
        }
        behaviour.post_start.act("post_start").await?;
        self.journal.write(Event::Up(self.name.to_owned(), life.context.generation));
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Do>, what: Do, life: &mut Life) -> Result<(), ActorProcessingErr> {
        match what {
            Do::Panic => panic!("panic in handle"),
            Do::Fail => return Err("error in handle".into()),
            Do::FailAtLength => return Err(Chained(std::io::Error::other("inner ".repeat(1000))).into()),
            Do::Stop => myself.stop(Some("enough".to_owned())),
            Do::Hang => std::future::pending().await,
            Do::Block(until, reply) => {
                reply.send(())?;
                let _ = until.recv();
            }
            Do::Report(health) => life.context.reporter.set_health(health),
            Do::CountFailure => life.context.reporter.count_failure(),
            Do::Generation(reply) => reply.send(life.context.generation)?,
            Do::Context(reply) => {
                let _ = reply.send((life.context.lease.clone(), life.context.reporter.clone()));
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Do>, life: &mut Life) -> Result<(), ActorProcessingErr> {
        self.journal.write(Event::Stopped(self.name.to_owned(), life.context.generation));
        let mode = self.behaviour.lock().unwrap().post_stop;
        mode.act("post_stop").await
    }
}

/// No incarnation began before the one before it was gone.
pub(crate) fn assert_no_overlap(events: &[Event]) {
    let mut alive: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        match event {
            Event::Started(name, generation) => {
                assert_eq!(alive.insert(name, *generation), None, "{event} began too early");
            }
            Event::Gone(name, generation) => assert_eq!(alive.remove(name.as_str()), Some(*generation)),
            Event::Up(..) | Event::Stopped(..) | Event::Removing(_) => {}
        }
    }
    assert!(alive.is_empty(), "never gone: {alive:?}");
}

/// A tree named `root` of probes, and everything that its board says.
pub(crate) struct Tree {
    pub(crate) root: Option<Root>,
    pub(crate) supervisor: ActorRef<SupervisorMessage>,
    pub(crate) board: StatusBoard,
    pub(crate) journal: Journal,
    changes: mpsc::UnboundedReceiver<StatusChange>,
    /// The board as the changes alone tell it.
    pub(crate) told: BTreeMap<String, ChildStatus>,
    /// Every change of one path, in order.
    pub(crate) history: Vec<StatusChange>,
}

impl Tree {
    pub(crate) async fn grow(strategy: Strategy, journal: &Journal, children: Vec<ChildSpec>) -> Self {
        let (sink, changes) = mpsc::unbounded_channel();
        let board = StatusBoard::new(sink);
        let root = Root::spawn("root", SupervisorConfig { strategy, children }, board.clone()).await.unwrap();
        Self {
            supervisor: root.actor.clone(),
            root: Some(root),
            board,
            journal: journal.clone(),
            changes,
            told: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// A tree of `probes` that are all up.
    pub(crate) async fn of(strategy: Strategy, probes: &[&Probe]) -> Self {
        let specs = probes.iter().map(|probe| probe.spec()).collect();
        let mut tree = Self::grow(strategy, &probes[0].journal, specs).await;
        for probe in probes {
            tree.until(probe.name, |status| status.health == Health::Ok).await;
        }
        tree.journal.take();
        tree
    }

    pub(crate) fn status(&self, name: &str) -> ChildStatus {
        self.board.get(&format!("root/{name}")).unwrap()
    }

    /// Takes note of the changes that were sent so far.
    pub(crate) fn listen(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            self.note(change);
        }
    }

    fn note(&mut self, change: StatusChange) {
        match &change {
            StatusChange::Added(status) => {
                let before = self.told.insert(status.path.clone(), status.clone());
                assert_eq!(before, None, "added twice");
            }
            StatusChange::Changed(status) => {
                let before = self.told.insert(status.path.clone(), status.clone()).expect("changed before added");
                assert_ne!(&before, status, "a change that changes nothing");
                assert!(before.generation <= status.generation, "the generation went back");
                assert!(before.fault_count <= status.fault_count && before.restart_count <= status.restart_count);
            }
            StatusChange::Removed(path) => {
                assert!(self.told.remove(path).is_some(), "removed, but not there");
                let below = format!("{path}/");
                assert!(!self.told.keys().any(|path| path.starts_with(&below)), "removed before what is below it");
            }
        }
        self.history.push(change);
    }

    /// Waits until a change tells that the child is as wanted, and returns its status as told by that change.
    pub(crate) async fn until(&mut self, name: &str, wanted: impl Fn(&ChildStatus) -> bool) -> ChildStatus {
        let path = format!("root/{name}");
        loop {
            if let Some(status) = self.told.get(&path)
                && wanted(status)
            {
                return status.clone();
            }
            match tokio::time::timeout(PATIENCE, self.changes.recv()).await {
                Ok(Some(change)) => self.note(change),
                _ => panic!("{path} never was as wanted; it is {:#?}", self.told.get(&path)),
            }
        }
    }

    /// Waits until the child is in generation `generation` and well.
    pub(crate) async fn until_up(&mut self, name: &str, generation: u64) -> ChildStatus {
        self.until(name, |status| status.generation == generation && status.health == Health::Ok).await
    }

    /// Waits until the child has had so many faults.
    pub(crate) async fn until_faults(&mut self, name: &str, faults: u64) -> ChildStatus {
        self.until(name, |status| status.fault_count == faults).await
    }

    pub(crate) async fn until_removed(&mut self, name: &str) {
        let path = format!("root/{name}");
        self.listen();
        while self.told.contains_key(&path) {
            let change = tokio::time::timeout(PATIENCE, self.changes.recv()).await.expect("it was never removed");
            self.note(change.unwrap());
        }
    }

    pub(crate) async fn start(&self, spec: ChildSpec) -> Result<u64, RequestError> {
        ractor::call!(self.supervisor, |reply| SupervisorMessage::Start(Box::new(spec), reply)).unwrap()
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), RequestError> {
        ractor::call!(self.supervisor, |reply| SupervisorMessage::Remove { name: name.to_owned(), reply }).unwrap()
    }

    pub(crate) async fn restart(&self, name: &str) -> Result<u64, RequestError> {
        ractor::call!(self.supervisor, |reply| SupervisorMessage::Restart { name: name.to_owned(), reply }).unwrap()
    }

    pub(crate) async fn reset(&self, name: &str) -> Result<(), RequestError> {
        ractor::call!(self.supervisor, |reply| SupervisorMessage::Reset { name: name.to_owned(), reply }).unwrap()
    }

    /// Ends the tree in order, and checks that the changes have told what the board says, to the last.
    pub(crate) async fn shut_down(mut self) {
        self.listen();
        let known: Vec<ChildStatus> = self.told.values().cloned().collect();
        assert_eq!(known, self.board.all());
        let root = self.root.take().unwrap();
        ractor::call!(root.actor, |reply| SupervisorMessage::Shutdown { reply: Some(reply) }).unwrap();
        assert!(matches!(root.ended().await, RootEnd::Shutdown));
        self.listen();
        assert!(self.told.is_empty(), "left on the board: {:?}", self.told.keys());
        assert!(self.board.all().is_empty());
    }
}

/// A cell for those who need one and don't care which.
pub(crate) async fn bystander() -> ActorCell {
    struct Bystander;
    impl Actor for Bystander {
        type Msg = ();
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }
    let (actor, _) = Actor::spawn(None, Bystander, ()).await.unwrap();
    actor.get_cell()
}

pub(crate) fn startup_failed(text: &str) -> SpawnErr {
    SpawnErr::StartupFailed(text.into())
}

/// Time since `start` on the paused clock, to the tenth of a second.
pub(crate) fn tenths_since(start: Instant) -> u128 {
    start.elapsed().as_millis() / 100
}

/// The panics that tests ask for are not printed: there may be thousands.
pub(crate) fn expect_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with("panic in ")) {
                print(info);
            }
        }));
    });
}
