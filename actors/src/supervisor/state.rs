//! What a supervisor knows, and what it does about it.
//!
//! Every event changes the record of a child, and then [`State::steer`] looks at what is and at what should be, and takes
//! the next step, if there is one to take. So it makes no difference in which order things happen.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use nexus_model::{
    Health, Timestamp,
    restart::{FailureWindow, Verdict},
};
use ractor::{ActorCell, ActorId, ActorRef, ActorStatus, MessagingErr, RpcReplyPort, SpawnErr};
use tokio::{sync::oneshot, time::Instant};

use super::{
    ChildContext, ChildSpec, GaveUp, GiveUp, Internal, Lease, Reporter, RequestError, Restart, RootEnd, StatusBoard,
    Strategy, SupervisorArguments, SupervisorMessage,
    child::{Child, EndFor, Intent, Phase, Task},
    ending::{Cause, Ending, Occurrence, panic_text, reason},
    lease::Lessor,
    message::InternalEvent,
};

/// What a [`Supervisor`](super::Supervisor) knows.
pub struct State {
    myself: ActorRef<SupervisorMessage>,
    path: String,
    strategy: Strategy,
    board: StatusBoard,
    /// By number, which is their order.
    children: BTreeMap<u64, Child>,
    names: HashMap<String, u64>,
    actors: HashMap<ActorId, u64>,
    next_number: u64,
    /// How many start functions run.
    starting: usize,
    /// What happened to actors that a start function has linked but not yet returned: ractor delivers it first.
    unclaimed: HashMap<ActorId, Vec<(ActorCell, Occurrence)>>,
    /// A start function has failed and may have left a linked actor behind.
    may_have_strays: bool,
    closing: Option<Closing>,
    end: Option<oneshot::Sender<RootEnd>>,
    /// Faults are counted in time that no clock change touches: the time since this.
    born: Instant,
    lease: Option<Arc<Lease>>,
}

/// The ordered end of a supervisor.
#[derive(Default)]
struct Closing {
    /// The child that made it necessary, unless it was asked for.
    gave_up: Option<GaveUp>,
    replies: Vec<RpcReplyPort<()>>,
}

impl State {
    pub(super) fn new(
        myself: ActorRef<SupervisorMessage>,
        arguments: SupervisorArguments,
    ) -> Result<Self, RequestError> {
        let SupervisorArguments { path, config, board, lease, end } = arguments;
        let mut seen = HashSet::new();
        for spec in &config.children {
            if !is_valid(&spec.name) {
                return Err(RequestError::InvalidName(spec.name.clone()));
            }
            if !seen.insert(spec.name.as_str()) {
                return Err(RequestError::Exists(spec.name.clone()));
            }
        }
        board.supervises(&path, config.strategy, &seen);
        let mut state = Self {
            myself,
            path,
            strategy: config.strategy,
            board,
            children: BTreeMap::new(),
            names: HashMap::new(),
            actors: HashMap::new(),
            next_number: 0,
            starting: 0,
            unclaimed: HashMap::new(),
            may_have_strays: false,
            closing: None,
            end,
            born: Instant::now(),
            lease,
        };
        for spec in config.children {
            state.insert(spec);
        }
        Ok(state)
    }

    /// Starts what the configuration names.
    pub(super) fn begin(&mut self) {
        if self.end.is_some() {
            self.board.up(&self.path, now());
        }
        let numbers: Vec<u64> = self.children.keys().copied().collect();
        for number in numbers {
            self.steer(number);
        }
    }

    pub(super) fn start(&mut self, spec: ChildSpec, reply: RpcReplyPort<Result<u64, RequestError>>) {
        let refusal = if self.closing.is_some() {
            Some(RequestError::Closing)
        } else if !is_valid(&spec.name) {
            Some(RequestError::InvalidName(spec.name.clone()))
        } else if self.names.contains_key(&spec.name) {
            Some(RequestError::Exists(spec.name.clone()))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            answer(reply, Err(refusal));
            return;
        }
        let number = self.insert(spec);
        if let Some(child) = self.children.get_mut(&number) {
            child.awaiting_up.push(reply);
        }
        self.steer(number);
    }

    pub(super) fn remove(&mut self, name: &str, reply: RpcReplyPort<Result<(), RequestError>>) {
        let (number, child) = match self.named(name) {
            Ok(found) => found,
            Err(error) => return answer(reply, Err(error)),
        };
        child.awaiting_removal.push(reply);
        child.intent = Intent::Forget;
        child.answer_up(&Err(RequestError::Removed));
        self.steer(number);
    }

    pub(super) fn restart(&mut self, name: &str, reply: RpcReplyPort<Result<u64, RequestError>>) {
        let (number, child) = match self.named(name) {
            Ok((_, child)) if child.intent == Intent::Forget => return answer(reply, Err(RequestError::Removed)),
            Ok(found) => found,
            Err(error) => return answer(reply, Err(error)),
        };
        child.awaiting_up.push(reply);
        if child.is_up() {
            child.must_end = Some(EndFor::Request);
        }
        self.hurry(number);
    }

    pub(super) fn reset(&mut self, name: &str, reply: RpcReplyPort<Result<(), RequestError>>) {
        let (number, child) = match self.named(name) {
            Ok(found) => found,
            Err(error) => return answer(reply, Err(error)),
        };
        child.faults.reset();
        child.given_up = false;
        if child.intent != Intent::Forget {
            self.hurry(number);
        }
        answer(reply, Ok(()));
    }

    pub(super) fn shutdown(&mut self, reply: Option<RpcReplyPort<()>>) {
        self.closing.get_or_insert_default().replies.extend(reply);
        self.close();
    }

    /// Something that this supervisor has set in motion came back.
    pub(super) fn internal(&mut self, internal: Internal) {
        let Internal { child: number, epoch, event } = internal;
        let current = self.children.get_mut(&number).filter(|child| child.epoch == epoch);
        let Some(child) = current else {
            if let InternalEvent::Started(Ok(actor)) = event {
                // Too late: the child was removed, or has been given up on.
                actor.kill();
            }
            return;
        };
        match event {
            InternalEvent::Started(Ok(actor)) => self.claim(number, &actor),
            InternalEvent::Started(Err(reason)) => {
                self.fault(number, &reason);
                self.release(number);
            }
            InternalEvent::Due => match &child.phase {
                Phase::Idle { .. } => child.phase = Phase::IDLE,
                Phase::Starting { .. } => {
                    let reason = format!("it did not start within {} s", child.spec.start_timeout.as_secs_f64());
                    self.fault(number, &reason);
                    self.release(number);
                }
                Phase::Settling { actor, .. } => {
                    actor.kill();
                    let reason = format!("it was not up within {} s", child.spec.start_timeout.as_secs_f64());
                    self.fault(number, &reason);
                    self.stopping(number, true);
                }
                Phase::Stopping { actor, killed: false, .. } => {
                    tracing::warn!(
                        NEXUS_ACTOR = %child.path,
                        NEXUS_GENERATION = child.generation,
                        "it did not stop within {} s and is killed",
                        child.spec.shutdown.as_secs_f64()
                    );
                    actor.kill();
                    self.stopping(number, true);
                }
                Phase::Stopping { actor, killed: true, .. } => {
                    tracing::error!(
                        NEXUS_ACTOR = %child.path,
                        NEXUS_GENERATION = child.generation,
                        "it does not end although it was killed; it is left behind"
                    );
                    self.actors.remove(&actor.get_id());
                    self.idle(number);
                }
                Phase::Up { .. } | Phase::Releasing { .. } => {}
            },
            InternalEvent::Released(released) => {
                if !released {
                    tracing::warn!(
                        NEXUS_ACTOR = %child.path,
                        NEXUS_GENERATION = child.generation,
                        "something of it still runs {} s after its end; it is left behind",
                        child.spec.shutdown.as_secs_f64()
                    );
                }
                self.may_have_strays |= matches!(child.phase, Phase::Releasing { was_claimed: false, .. });
                self.idle(number);
            }
        }
        if self.starting == 0 {
            self.unclaimed.clear();
            if std::mem::take(&mut self.may_have_strays) {
                self.kill_strays();
            }
        }
        self.steer(number);
    }

    /// Something happened to an actor that is linked to this supervisor.
    pub(super) fn observe(&mut self, actor: &ActorCell, occurrence: Occurrence) {
        let Some(&number) = self.actors.get(&actor.get_id()) else {
            if self.starting > 0 {
                self.unclaimed.entry(actor.get_id()).or_default().push((actor.clone(), occurrence));
            }
            return;
        };
        match occurrence {
            Occurrence::Started => self.up(number),
            Occurrence::Ended(ending) => self.ended(number, actor, ending),
        }
        self.steer(number);
    }

    /// The last act: what the supervisor ends with.
    pub(super) fn end(&mut self) -> Result<(), GaveUp> {
        let end = match &self.closing {
            Some(Closing { gave_up: None, .. }) => RootEnd::Shutdown,
            Some(Closing { gave_up: Some(gave_up), .. }) => RootEnd::GaveUp(gave_up.clone()),
            None => RootEnd::Killed,
        };
        if let Some(sender) = self.end.take() {
            // Nobody need wait for it.
            let _ = sender.send(end);
        }
        match self.closing.take() {
            Some(Closing { gave_up: Some(gave_up), .. }) => Err(gave_up),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, spec: ChildSpec) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let path = format!("{}/{}", self.path, spec.name);
        let next_generation = self.board.add(&path, Some(&self.path), Some(spec.intensity), spec.generation);
        self.names.insert(spec.name.clone(), number);
        self.children.insert(
            number,
            Child {
                path,
                epoch: 0,
                phase: Phase::IDLE,
                intent: Intent::Run,
                must_end: None,
                due: Instant::now(),
                generation: 0,
                next_generation,
                faults: FailureWindow::new(spec.backoff, spec.intensity),
                given_up: false,
                lessor: Lessor::new(None),
                awaiting_up: Vec::new(),
                awaiting_removal: Vec::new(),
                spec,
            },
        );
        number
    }

    fn named(&mut self, name: &str) -> Result<(u64, &mut Child), RequestError> {
        if self.closing.is_some() {
            return Err(RequestError::Closing);
        }
        let number = self.names.get(name).copied();
        number
            .and_then(|number| Some((number, self.children.get_mut(&number)?)))
            .ok_or_else(|| RequestError::Unknown(name.to_owned()))
    }

    /// The child is to run, and to wait no longer.
    fn hurry(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        child.intent = Intent::Run;
        child.due = Instant::now();
        if child.is_idle() {
            child.phase = Phase::IDLE;
        }
        if matches!(child.phase, Phase::Idle { .. } | Phase::Releasing { .. }) {
            self.board.down(&child.path, Health::Restarting, Timestamp::NEVER);
        }
        self.steer(number);
    }

    /// Takes the next step for a child, or, where siblings hang together, for all of them.
    fn steer(&mut self, number: u64) {
        if self.closing.is_some() {
            self.close();
        } else if self.strategy == Strategy::RestForOne {
            self.steer_all();
        } else if let Some(child) = self.children.get(&number) {
            match child.intent {
                Intent::Forget => self.part(number),
                Intent::Run if child.must_end.is_some() => self.end_incarnation(number),
                Intent::Run if child.is_idle() => self.launch_when_due(number),
                Intent::Run | Intent::Rest => {}
            }
        }
    }

    /// The next step where later children depend on earlier ones: the first child that is not well holds back all that
    /// come after it; they are stopped, the last first, and only when none is left is it started itself.
    fn steer_all(&mut self) {
        let parting = |child: &Child| child.intent == Intent::Forget;
        let leaving: Vec<u64> = self.children.iter().filter(|(_, child)| parting(child)).map(|(n, _)| *n).collect();
        for number in leaving {
            self.part(number);
        }

        let mut dependents = self.children.iter_mut().filter(|(_, child)| !parting(child));
        let Some((&first, holder)) = dependents.find(|(_, child)| !child.is_up() || child.must_end.is_some()) else {
            return;
        };
        let health = match holder.spec.give_up {
            GiveUp::Mark(health) | GiveUp::Retry { health, .. } if holder.given_up && !holder.is_up() => health,
            _ => Health::Restarting,
        };
        let mut last_active = (!holder.is_idle()).then_some(first);
        for (&number, child) in dependents {
            if child.is_idle() {
                self.board.down(&child.path, health, Timestamp::NEVER);
            } else {
                child.must_end.get_or_insert(EndFor::Sibling);
                last_active = Some(number);
            }
        }
        match last_active {
            Some(number) if self.children.get(&number).is_some_and(|child| child.must_end.is_some()) => {
                self.end_incarnation(number);
            }
            Some(_) => {}
            None if self.children.get(&first).is_some_and(|child| child.intent == Intent::Run) => {
                self.launch_when_due(first);
            }
            None => {}
        }
    }

    /// The next step of an ordered end: the last child that is not gone goes; when none is left, so does the supervisor.
    fn close(&mut self) {
        while let Some(entry) = self.children.last_entry() {
            let number = *entry.key();
            let child = entry.into_mut();
            child.answer_up(&Err(RequestError::Closing));
            if !child.is_idle() {
                self.end_incarnation(number);
                return;
            }
            let forgotten = child.intent == Intent::Forget;
            let awaiting_removal = std::mem::take(&mut child.awaiting_removal);
            if let Some(child) = self.children.remove(&number)
                && forgotten
            {
                self.board.remove(&child.path);
            }
            for reply in awaiting_removal {
                answer(reply, Ok(()));
            }
        }
        for reply in self.closing.iter_mut().flat_map(|closing| closing.replies.drain(..)) {
            answer(reply, ());
        }
        self.myself.stop(None);
    }

    /// Ends and forgets a child.
    fn part(&mut self, number: u64) {
        if !self.children.get(&number).is_some_and(Child::is_idle) {
            self.end_incarnation(number);
        } else if let Some(mut child) = self.children.remove(&number) {
            self.names.remove(&child.spec.name);
            self.board.remove(&child.path);
            child.answer_up(&Err(RequestError::Removed));
            for reply in child.awaiting_removal.drain(..) {
                answer(reply, Ok(()));
            }
            tracing::debug!(NEXUS_ACTOR = %child.path, NEXUS_GENERATION = child.generation, "gone from the tree");
        }
    }

    fn launch_when_due(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        let wait = child.due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.launch(number);
        } else if matches!(child.phase, Phase::Idle { _back_off: None }) {
            child.epoch += 1;
            child.phase = Phase::Idle { _back_off: Some(timer(&self.myself, number, child.epoch, wait)) };
        }
    }

    /// Starts an incarnation.
    fn launch(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        child.epoch += 1;
        child.generation = child.next_generation;
        child.next_generation = child.generation.saturating_add(1);
        child.lessor = Lessor::new(self.lease.clone());
        let context = ChildContext {
            supervisor: self.myself.get_cell(),
            path: child.path.clone(),
            lease: child.lessor.lease(),
            generation: child.generation,
            reporter: Reporter::new(self.board.clone(), child.path.clone(), child.generation),
            board: self.board.clone(),
        };
        self.board.starting(&child.path, child.generation);
        tracing::debug!(NEXUS_ACTOR = %child.path, NEXUS_GENERATION = child.generation, "starting");

        let (start, supervisor, epoch) = (Arc::clone(&child.spec.start), self.myself.clone(), child.epoch);
        let task = tokio::spawn(async move {
            let started = AssertUnwindSafe(async move { start(context).await }).catch_unwind().await;
            let result = match started {
                Ok(Ok(actor)) => Ok(actor),
                Ok(Err(SpawnErr::StartupFailed(error))) => Err(reason(error.as_ref())),
                Ok(Err(error)) => Err(reason(&error)),
                Err(panic) => Err(panic_text(panic.as_ref())),
            };
            send(&supervisor, number, epoch, InternalEvent::Started(result));
        });
        let deadline = timer(&self.myself, number, epoch, child.spec.start_timeout);
        child.phase = Phase::Starting { _start: Task(task.abort_handle()), deadline };
        self.starting += 1;
    }

    /// The start function returned `actor`.
    fn claim(&mut self, number: u64, actor: &ActorCell) {
        let Some(child) = self.children.get_mut(&number) else { return };
        let supervisor = actor.try_get_supervisor().map(|supervisor| supervisor.get_id());
        // An actor that has ended already is linked to nobody any more, but its end was or will be heard of.
        let linked = supervisor == Some(self.myself.get_id()) || actor.get_status() >= ActorStatus::Stopping;
        if !linked || self.actors.contains_key(&actor.get_id()) {
            actor.kill();
            self.fault(number, "its start function returned an actor that is not linked to the supervisor");
            self.release(number);
            return;
        }
        let Phase::Starting { deadline, .. } = std::mem::replace(&mut child.phase, Phase::IDLE) else { return };
        child.phase = Phase::Settling { actor: actor.clone(), _deadline: deadline };
        self.starting -= 1;
        self.actors.insert(actor.get_id(), number);
        for (actor, occurrence) in self.unclaimed.remove(&actor.get_id()).unwrap_or_default() {
            self.observe(&actor, occurrence);
        }
    }

    fn up(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        let Phase::Settling { actor, .. } = &child.phase else { return };
        let actor = actor.clone();
        if let Some(slot) = &child.spec.slot
            && !slot.fill(&actor)
        {
            tracing::error!(NEXUS_ACTOR = %child.path, "its slot is for an actor that takes other messages");
        }
        child.epoch += 1;
        child.phase = Phase::Up { actor, since: Instant::now() };
        self.board.up(&child.path, now());
        tracing::debug!(NEXUS_ACTOR = %child.path, NEXUS_GENERATION = child.generation, "up");
        let generation = child.generation;
        child.answer_up(&Ok(generation));
    }

    fn ended(&mut self, number: u64, actor: &ActorCell, ending: Ending) {
        self.actors.remove(&actor.get_id());
        let Some(child) = self.children.get_mut(&number) else { return };
        if let Some(slot) = &child.spec.slot {
            slot.empty(actor.get_id());
        }
        ending.remains.bury(child.lessor.lease());
        match (&child.phase, ending.cause) {
            (Phase::Stopping { .. }, Cause::Failed(reason)) => {
                tracing::error!(
                    NEXUS_ACTOR = %child.path,
                    NEXUS_GENERATION = child.generation,
                    "it failed while it was stopped: {reason}"
                );
                self.board.fault(&child.path, &reason, now(), Health::Restarting, Timestamp::NEVER);
            }
            (Phase::Stopping { .. }, Cause::Stopped(_) | Cause::Killed) => {}
            (_, Cause::Stopped(_)) if child.spec.restart != Restart::Permanent => {
                tracing::debug!(NEXUS_ACTOR = %child.path, NEXUS_GENERATION = child.generation, "has ended");
                child.intent = Intent::Forget;
            }
            (_, cause) => self.fault(number, &cause.to_string()),
        }
        self.release(number);
    }

    /// Counts a fault and decides what follows.
    fn fault(&mut self, number: u64, reason: &str) {
        let Some(child) = self.children.get_mut(&number) else { return };
        let window = child.spec.intensity.window;
        if matches!(child.phase, Phase::Up { since, .. } if since.elapsed() >= window) {
            child.faults.reset();
            child.given_up = false;
        }
        // A timestamp of zero means never.
        let instant = Timestamp::NEVER.after(Duration::from_secs(1) + self.born.elapsed());
        let verdict = child.faults.failed(instant, fastrand::f64());
        let (health, wait) = match (verdict, child.spec.give_up) {
            _ if child.spec.restart == Restart::Temporary => {
                child.intent = Intent::Forget;
                (Health::Failed, None)
            }
            (Verdict::Retry(wait), _) if !child.given_up => (Health::Restarting, Some(wait)),
            (_, GiveUp::Escalate) => {
                let faults = child.faults.recent().len();
                let gave_up = GaveUp { path: child.path.clone(), faults, window, reason: reason.to_owned() };
                self.closing.get_or_insert_with(|| Closing { gave_up: Some(gave_up), replies: Vec::new() });
                (Health::Failed, None)
            }
            (_, GiveUp::Mark(health)) => {
                child.given_up = true;
                child.intent = Intent::Rest;
                (health, None)
            }
            (_, GiveUp::Retry { every, health }) => {
                child.given_up = true;
                (health, Some(every))
            }
        };
        child.due = Instant::now() + wait.unwrap_or_default();
        let at = now();
        self.board.fault(&child.path, reason, at, health, wait.map_or(Timestamp::NEVER, |wait| at.after(wait)));
        let (path, generation) = (&child.path, child.generation);
        match wait {
            Some(wait) if !child.given_up => tracing::warn!(
                NEXUS_ACTOR = %path,
                NEXUS_GENERATION = generation,
                "fault: {reason}; it is started again in {:.3} s",
                wait.as_secs_f64()
            ),
            Some(wait) => tracing::error!(
                NEXUS_ACTOR = %path,
                NEXUS_GENERATION = generation,
                "fault: {reason}; too many of them: it is tried again every {:.3} s",
                wait.as_secs_f64()
            ),
            None => tracing::error!(
                NEXUS_ACTOR = %path,
                NEXUS_GENERATION = generation,
                "fault: {reason}; it is not started again ({health})"
            ),
        }
        child.answer_up(&Err(RequestError::Faulted { reason: reason.to_owned() }));
    }

    /// Ends the incarnation that there is, in whatever phase it is.
    fn end_incarnation(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        match &child.phase {
            Phase::Starting { .. } => {
                self.board.down(&child.path, Health::Restarting, Timestamp::NEVER);
                self.release(number);
            }
            Phase::Settling { actor, .. } | Phase::Up { actor, .. } => {
                if let Some(slot) = &child.spec.slot {
                    slot.empty(actor.get_id());
                }
                if actor.is_message_type_of::<SupervisorMessage>() == Some(true) {
                    // It may be dead already; then its end is on its way.
                    let _ = actor.send_message(SupervisorMessage::Shutdown { reply: None });
                } else {
                    actor.stop(Some("asked by its supervisor".to_owned()));
                }
                self.board.down(&child.path, Health::Restarting, Timestamp::NEVER);
                self.stopping(number, false);
            }
            Phase::Idle { .. } | Phase::Stopping { .. } | Phase::Releasing { .. } => {}
        }
    }

    /// The actor was asked to stop, or killed.
    fn stopping(&mut self, number: u64, killed: bool) {
        let Some(child) = self.children.get_mut(&number) else { return };
        let Some(actor) = child.phase.actor().cloned() else { return };
        child.epoch += 1;
        let deadline = timer(&self.myself, number, child.epoch, child.spec.shutdown);
        child.phase = Phase::Stopping { actor, killed, _deadline: deadline };
    }

    /// There is no actor any more: waits for what still belongs to it.
    fn release(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        child.epoch += 1;
        let (supervisor, epoch) = (self.myself.clone(), child.epoch);
        let closed = tokio::time::timeout(child.spec.shutdown, child.lessor.closed());
        let task = tokio::spawn(async move {
            let released = closed.await.is_ok();
            send(&supervisor, number, epoch, InternalEvent::Released(released));
        });
        let was_claimed = !matches!(child.phase, Phase::Starting { .. });
        if !was_claimed {
            self.starting -= 1;
        }
        child.phase = Phase::Releasing { was_claimed, _wait: Task(task.abort_handle()) };
    }

    /// Nothing of the incarnation is left, or it was waited for long enough.
    fn idle(&mut self, number: u64) {
        let Some(child) = self.children.get_mut(&number) else { return };
        child.epoch += 1;
        child.phase = Phase::IDLE;
        if child.must_end.take() == Some(EndFor::Sibling) && child.spec.restart == Restart::Temporary {
            child.intent = Intent::Forget;
        }
    }

    /// Kills actors that are linked to this supervisor and are no child's: a start function left them behind.
    fn kill_strays(&self) {
        for actor in self.myself.get_children() {
            if !self.actors.contains_key(&actor.get_id()) {
                tracing::warn!(NEXUS_ACTOR = %self.path, "a start that failed left an actor behind; it is killed");
                actor.kill();
            }
        }
    }
}

fn is_valid(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn answer<T>(reply: RpcReplyPort<T>, value: T) {
    // The caller may have given up waiting.
    let _ = reply.send(value);
}

fn timer(supervisor: &ActorRef<SupervisorMessage>, child: u64, epoch: u64, wait: Duration) -> Task {
    let supervisor = supervisor.clone();
    let task = tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        send(&supervisor, child, epoch, InternalEvent::Due);
    });
    Task(task.abort_handle())
}

fn send(supervisor: &ActorRef<SupervisorMessage>, child: u64, epoch: u64, event: InternalEvent) {
    let message = SupervisorMessage::Internal(Internal { child, epoch, event });
    if let Err(MessagingErr::SendErr(SupervisorMessage::Internal(lost))) = supervisor.send_message(message)
        && let InternalEvent::Started(Ok(actor)) = lost.event
    {
        // The supervisor has ended meanwhile, and nobody else knows of this one.
        actor.kill();
    }
}
