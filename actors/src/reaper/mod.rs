//! The actor that finds what nothing owns.
//!
//! Owns nothing but what it knows of orphans: resources of the host under this Nexus' names whose owner is not in the
//! store. It looks at its start, when it is asked, and soon after something failed, and removes what is surely Nexus' own
//! and without worth once that was an orphan for the configured grace. Supervised by the root. A crash loses since when
//! orphans are known: their grace begins anew.

mod orphan;
mod owners;
mod requests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nexus_host::resource::{Place, Resource, Standing};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

pub use orphan::{Fate, Orphan, Pruned};

use crate::{
    Engine, Error,
    ask::Reply,
    supervisor::{ActorSlot, ChildContext, ChildSpec},
};

/// How long after a failure it is looked what that left: failures come in crowds, and what is undone takes a moment.
const SETTLE: Duration = Duration::from_secs(2);

/// What the reaper is asked and told.
pub(crate) enum ReaperMessage {
    /// What is an orphan now?
    Orphans { reply: Reply<Vec<Orphan>> },
    /// Something failed, and may have left something.
    Failed,
    /// It is time to look. From its own timer.
    Look,
}

/// Reaches the reaper from anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    slot: ActorSlot<ReaperMessage>,
    /// Whether it was told already that something failed.
    told: Arc<AtomicBool>,
    /// Held by whoever removes orphans.
    removing: Arc<Mutex<()>>,
}

impl Reaper {
    pub(crate) fn new() -> Self {
        Self { slot: ActorSlot::new(), told: Arc::default(), removing: Arc::default() }
    }

    /// Has it look, soon, what a failure left.
    pub(crate) fn something_failed(&self) {
        if !self.told.swap(true, Ordering::SeqCst)
            // Without an actor there is nothing to do: the next one looks by itself.
            && let Some(reaper) = self.slot.now()
        {
            let _ = reaper.send_message(ReaperMessage::Failed);
        }
    }
}

struct ReaperActor;

struct State {
    engine: Engine,
    /// The orphans that there are, and since when each is known.
    known: BTreeMap<Place, Instant>,
    /// When it is looked next; at most one look is ahead.
    next: Option<(Instant, AbortOnDropHandle<()>)>,
    _child: ChildContext,
}

impl Actor for ReaperActor {
    type Msg = ReaperMessage;
    type State = State;
    type Arguments = (Engine, ChildContext);

    async fn pre_start(
        &self,
        _myself: ActorRef<ReaperMessage>,
        (engine, child): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { engine, known: BTreeMap::new(), next: None, _child: child })
    }

    async fn post_start(&self, myself: ActorRef<ReaperMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.engine.reaper.told.store(false, Ordering::SeqCst);
        // Those who wait for this one to be up do not wait for the machine to be looked at.
        myself.send_message(ReaperMessage::Look)?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ReaperMessage>,
        message: ReaperMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.reaper");
        match message {
            ReaperMessage::Orphans { reply } => {
                let orphans = state.look(&myself).await;
                let _ = reply.send(orphans.map(|orphans| state.describe(&orphans)));
            }
            ReaperMessage::Failed => {
                state.engine.reaper.told.store(false, Ordering::SeqCst);
                state.look_at(&myself, Instant::now() + SETTLE);
            }
            ReaperMessage::Look => {
                state.next = None;
                state.reap(&myself).await;
            }
        }
        Ok(())
    }
}

impl State {
    /// Removes what was an orphan for long enough.
    async fn reap(&mut self, myself: &ActorRef<ReaperMessage>) {
        let orphans = match self.look(myself).await {
            Ok(orphans) => orphans,
            Err(error) => {
                warn!("what nothing owns could not be looked for: {}", error.text());
                return self.look_at(myself, Instant::now() + self.grace());
            }
        };
        let (now, grace) = (Instant::now(), self.grace());
        let is_due = |orphan: &&Resource| self.known.get(&orphan.place).is_some_and(|since| *since + grace <= now);
        let due: Vec<Resource> = orphans.iter().filter(is_due).filter(|orphan| goes(orphan)).cloned().collect();
        if due.is_empty() {
            return;
        }
        let origin = match Engine::own_origin() {
            Ok(origin) => origin,
            Err(error) => return warn!("{}", error.text()),
        };
        for orphan in due {
            // What can't be removed is tried again after another grace.
            self.known.remove(&orphan.place);
            if let Err(error) = self.engine.remove_orphan(&origin, &orphan).await {
                warn!("the orphan {} {} could not be removed: {}", orphan.kind, orphan.place, error.text());
                self.known.insert(orphan.place, now);
            }
        }
        self.next = None;
        self.wait_for_next(myself, &orphans);
    }

    /// Looks at the machine, and keeps in mind what it finds.
    async fn look(&mut self, myself: &ActorRef<ReaperMessage>) -> Result<Vec<Resource>, Error> {
        let orphans = self.engine.find_orphans().await?;
        let (now, before) = (Instant::now(), std::mem::take(&mut self.known));
        for orphan in &orphans {
            let since = before.get(&orphan.place).copied();
            if since.is_none() {
                warn!("{} {} has no owner: {}", orphan.kind, orphan.place, self.fate(orphan, now));
            }
            self.known.insert(orphan.place.clone(), since.unwrap_or(now));
        }
        self.wait_for_next(myself, &orphans);
        Ok(orphans)
    }

    fn describe(&self, orphans: &[Resource]) -> Vec<Orphan> {
        let now = Instant::now();
        let describe = |orphan: &Resource| Orphan {
            kind: orphan.kind,
            name: orphan.place.to_string(),
            fate: self.fate(orphan, self.known.get(&orphan.place).copied().unwrap_or(now)),
        };
        orphans.iter().map(describe).collect()
    }

    fn fate(&self, orphan: &Resource, since: Instant) -> Fate {
        match &orphan.standing {
            Standing::Ours => Fate::Goes { after: self.grace().saturating_sub(since.elapsed()) },
            Standing::Data => Fate::HoldsData { kind: orphan.kind },
            Standing::Doubtful(why) => Fate::Stays { why: why.clone() },
        }
    }

    /// Looks again when the next orphan is due. While there is none, there is no timer.
    fn wait_for_next(&mut self, myself: &ActorRef<ReaperMessage>, orphans: &[Resource]) {
        let since = orphans.iter().filter(|orphan| goes(orphan)).filter_map(|orphan| self.known.get(&orphan.place));
        if let Some(first) = since.min().copied() {
            self.look_at(myself, first + self.grace());
        }
    }

    fn look_at(&mut self, myself: &ActorRef<ReaperMessage>, at: Instant) {
        if self.next.as_ref().is_some_and(|(next, _)| *next <= at) {
            return;
        }
        let myself = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _ = myself.send_message(ReaperMessage::Look);
        });
        self.next = Some((at, AbortOnDropHandle::new(timer)));
    }

    fn grace(&self) -> Duration {
        self.engine.settings.orphan_grace
    }
}

/// Whether an orphan goes by itself.
fn goes(orphan: &Resource) -> bool {
    orphan.standing == Standing::Ours
}

/// The actor as a child of the root.
pub(crate) fn child_spec(engine: &Engine) -> ChildSpec {
    let (engine, slot) = (engine.clone(), engine.reaper.slot.clone());
    ChildSpec::new("reaper", move |child: ChildContext| {
        let engine = engine.clone();
        async move { child.clone().spawn(ReaperActor, (engine, child)).await }
    })
    .published_in(&slot)
}
