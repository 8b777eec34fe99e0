//! The actor that finds what nothing owns.
//!
//! Owns nothing but what it knows of orphans: resources of the host under this Nexus' names whose owner is not in the
//! store. It looks at its start, when it is asked, and soon after something failed or was pruned, and removes what is
//! surely Nexus' own, does not run and is without worth once that was an orphan for the configured grace. Supervised by
//! the root. A crash loses since when orphans are known: their grace begins anew.

mod agenda;
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
use nexus_model::ErrorKind;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

pub use orphan::{Fate, Orphan, Pruned};

use agenda::{Agenda, SETTLE};

use crate::{
    Engine, Error,
    ask::Reply,
    supervisor::{ActorSlot, ChildContext, ChildSpec},
};

/// What the reaper is asked and told.
pub(crate) enum ReaperMessage {
    /// What is an orphan now?
    Orphans { reply: Reply<Vec<Orphan>> },
    /// Something failed, and may have left something; or what ran was pruned, and has left its folders.
    LookSoon,
    /// It is time to look. From its own timer.
    Look,
    /// What a look found, and who asked for it. From its own task.
    Looked { found: Result<Vec<Resource>, Error>, asked: Vec<Reply<Vec<Orphan>>> },
    /// Orphans were tried to be removed. From its own task.
    Reaped,
}

/// Reaches the reaper from anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    slot: ActorSlot<ReaperMessage>,
    /// Whether it was told already to look soon.
    told: Arc<AtomicBool>,
    /// Held by whoever removes orphans.
    removing: Arc<Mutex<()>>,
}

impl Reaper {
    pub(crate) fn new() -> Self {
        Self { slot: ActorSlot::new(), told: Arc::default(), removing: Arc::default() }
    }

    /// Has it look, soon, what a failure left, or what ran.
    pub(crate) fn look_soon(&self) {
        if !self.told.swap(true, Ordering::SeqCst)
            // Without an actor there is nothing to do: the next one looks by itself.
            && let Some(reaper) = self.slot.now()
        {
            let _ = reaper.send_message(ReaperMessage::LookSoon);
        }
    }
}

struct ReaperActor;

struct State {
    engine: Engine,
    /// The orphans that there are, and since when each is known to be as it is.
    known: BTreeMap<Place, (Instant, Standing)>,
    /// Looks at the machine, or removes. Never awaited here: with the store away it would keep the actor from its end.
    working: Option<AbortOnDropHandle<()>>,
    /// Who asked since that began.
    asked: Vec<Reply<Vec<Orphan>>>,
    agenda: Agenda,
    /// Tells when it is time for the next look.
    timer: Option<AbortOnDropHandle<()>>,
    child: ChildContext,
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
        Ok(State {
            engine,
            known: BTreeMap::new(),
            working: None,
            asked: Vec::new(),
            agenda: Agenda::default(),
            timer: None,
            child,
        })
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
                state.asked.push(reply);
                state.look(&myself);
            }
            ReaperMessage::LookSoon => {
                state.engine.reaper.told.store(false, Ordering::SeqCst);
                let planned = state.agenda.look_soon(Instant::now());
                state.set_timer(&myself, planned);
            }
            ReaperMessage::Look => {
                let planned = state.agenda.looks(Instant::now());
                state.set_timer(&myself, planned);
                if state.working.is_some() {
                    state.look_at(&myself, Instant::now() + SETTLE);
                }
                state.look(&myself);
            }
            ReaperMessage::Looked { found, asked } => {
                state.working = None;
                state.looked(&myself, found, asked);
            }
            ReaperMessage::Reaped => {
                state.working = None;
                state.look(&myself);
            }
        }
        Ok(())
    }
}

impl State {
    /// Who asked while it was looked may mean what has come since.
    fn look_for_those_who_asked(&mut self, myself: &ActorRef<ReaperMessage>) {
        if !self.asked.is_empty() {
            self.look(myself);
        }
    }

    /// Looks at the machine, unless something is under way, after which it is looked for whoever asked.
    fn look(&mut self, myself: &ActorRef<ReaperMessage>) {
        if self.working.is_some() {
            return;
        }
        let (engine, myself, lease) = (self.engine.clone(), myself.clone(), self.child.lease.clone());
        let asked = std::mem::take(&mut self.asked);
        self.working = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _lease = lease;
            let found = to_its_end(async move { engine.find_orphans().await }).await;
            let _ = myself.send_message(ReaperMessage::Looked { found, asked });
        })));
    }

    /// Answers, keeps in mind what was found, and removes what was an orphan for long enough.
    fn looked(
        &mut self,
        myself: &ActorRef<ReaperMessage>,
        found: Result<Vec<Resource>, Error>,
        asked: Vec<Reply<Vec<Orphan>>>,
    ) {
        let orphans = match found {
            Ok(orphans) => orphans,
            Err(error) => {
                warn!("what nothing owns could not be looked for: {}", error.text());
                for reply in asked {
                    let _ = reply.send(Err(Error::new(error.kind(), error.text())));
                }
                self.look_at(myself, Instant::now() + self.grace());
                return self.look_for_those_who_asked(myself);
            }
        };
        self.remember(&orphans);
        for reply in asked {
            let _ = reply.send(Ok(self.describe(&orphans)));
        }
        let (now, grace) = (Instant::now(), self.grace());
        let is_due = |orphan: &&Resource| self.known.get(&orphan.place).is_some_and(|(since, _)| *since + grace <= now);
        let due: Vec<Resource> = orphans.iter().filter(is_due).filter(|orphan| goes(orphan)).cloned().collect();
        if due.is_empty() {
            self.wait_for_next(myself, &orphans);
            return self.look_for_those_who_asked(myself);
        }
        // What can't be removed is tried again after another grace.
        self.known.extend(due.iter().map(|orphan| (orphan.place.clone(), (now, orphan.standing.clone()))));
        self.reap(myself, due);
    }

    fn reap(&mut self, myself: &ActorRef<ReaperMessage>, due: Vec<Resource>) {
        let (engine, myself, lease) = (self.engine.clone(), myself.clone(), self.child.lease.clone());
        self.working = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _lease = lease;
            for orphan in due {
                let (engine, removed) = (engine.clone(), orphan.clone());
                let removed = async move { engine.remove_orphan(&Engine::own_origin()?, &removed).await };
                if let Err(error) = to_its_end(removed).await {
                    warn!("the orphan {} {} could not be removed: {}", orphan.kind, orphan.place, error.text());
                }
            }
            let _ = myself.send_message(ReaperMessage::Reaped);
        })));
    }

    /// Keeps in mind since when each orphan is one, and as it is: the grace of what ran begins when it no longer does.
    fn remember(&mut self, orphans: &[Resource]) {
        let (now, before) = (Instant::now(), std::mem::take(&mut self.known));
        for orphan in orphans {
            let since =
                before.get(&orphan.place).filter(|(_, standing)| *standing == orphan.standing).map(|known| known.0);
            if since.is_none() {
                warn!("{} {} has no owner: {}", orphan.kind, orphan.place, self.fate(orphan, now));
            }
            self.known.insert(orphan.place.clone(), (since.unwrap_or(now), orphan.standing.clone()));
        }
    }

    fn describe(&self, orphans: &[Resource]) -> Vec<Orphan> {
        let now = Instant::now();
        let describe = |orphan: &Resource| Orphan {
            kind: orphan.kind,
            name: orphan.place.to_string(),
            fate: self.fate(orphan, self.known.get(&orphan.place).map_or(now, |known| known.0)),
        };
        orphans.iter().map(describe).collect()
    }

    fn fate(&self, orphan: &Resource, since: Instant) -> Fate {
        match &orphan.standing {
            Standing::Ours => Fate::Goes { after: self.grace().saturating_sub(since.elapsed()) },
            Standing::Runs { by } => Fate::Runs { kind: orphan.kind, by: *by },
            Standing::Data => Fate::HoldsData { kind: orphan.kind },
            Standing::Doubtful(why) => Fate::Stays { why: why.clone() },
        }
    }

    /// Looks again when the next orphan is due. While there is none, there is no timer.
    fn wait_for_next(&mut self, myself: &ActorRef<ReaperMessage>, orphans: &[Resource]) {
        let known = orphans.iter().filter(|orphan| goes(orphan)).filter_map(|orphan| self.known.get(&orphan.place));
        if let Some(first) = known.map(|known| known.0).min() {
            self.look_at(myself, first + self.grace());
        }
    }

    fn look_at(&mut self, myself: &ActorRef<ReaperMessage>, at: Instant) {
        let planned = self.agenda.plan(at);
        self.set_timer(myself, planned);
    }

    /// Has it look then, instead of when it would have; unless nothing has changed.
    fn set_timer(&mut self, myself: &ActorRef<ReaperMessage>, planned: Option<Instant>) {
        let Some(at) = planned else { return };
        let myself = myself.clone();
        self.timer = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _ = myself.send_message(ReaperMessage::Look);
        })));
    }

    fn grace(&self) -> Duration {
        self.engine.settings.orphan_grace
    }
}

/// Does what may panic, which is an error then: whoever waits for it is told of its end in any case. Ends with its caller.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    AbortOnDropHandle::new(tokio::spawn(work))
        .await
        .map_err(|error| Error::caused(ErrorKind::Internal, "the reaper's work broke off", error))?
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
