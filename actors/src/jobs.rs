//! The actor of long operations.
//!
//! Numbers jobs through the store, starts their tasks, and writes down and shows how they end. Supervised by the root. A
//! crash of it loses nothing: the tasks and what they came to are kept outside, jobs go on as if nothing had happened, and
//! the next incarnation takes them up. They end with the daemon.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use nexus_model::{ErrorKind, JobKind, JobState, Timestamp, restart::Backoff};
use nexus_store::{Failure, JobRow, NewJob};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::{
    Error, Origin,
    ask::{ACTOR_DEADLINE, Reply, ask},
    reaper::Reaper,
    snapshot::{Board, JobId, JobSnapshot, ObjectRef, ResultValue},
    store::StoreHandle,
    supervisor::{ActorSlot, ChildContext, ChildSpec, Lease},
};

/// Progress is shown at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Between two tries to tell the actor of the end of a job.
const END_RETRY: Duration = Duration::from_secs(1);
/// Between two tries to store how it ended.
const STORE_RETRY: Backoff = Backoff { initial: END_RETRY, max: Duration::from_secs(10), jitter: 0.2 };

/// So many orphans are named in the event of the job that removed them.
const NAMED: usize = 10;

/// What a job gives, by kebab-case keys.
pub(crate) type JobResult = BTreeMap<&'static str, ResultValue>;
type Work = Box<dyn FnOnce(JobControl) -> Pin<Box<dyn Future<Output = Result<JobResult, Error>> + Send>> + Send>;

/// What to do as a job.
pub(crate) struct JobRequest {
    pub(crate) kind: JobKind,
    pub(crate) objects: Vec<ObjectRef>,
    pub(crate) cancellable: bool,
    pub(crate) origin: Origin,
}

pub(crate) enum JobMessage {
    /// Numbers the job, shows it and starts its work.
    Submit { request: JobRequest, work: Work, reply: Reply<JobId> },
    /// Tells a job to end. `InvalidState` when it has ended or can't be cancelled.
    Cancel { job: JobId, reply: Reply<()> },
    /// A job's work has ended, as [`Underway`] knows. Sent by its own task.
    Finished { job: JobId },
    /// A finished job has been shown for long enough.
    Expired { job: JobId },
}

/// Submits and cancels jobs from anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    slot: ActorSlot<JobMessage>,
    underway: Underway,
    reaper: Reaper,
}

impl Jobs {
    pub(crate) fn new(reaper: Reaper) -> Self {
        Self { slot: ActorSlot::new(), underway: Underway::default(), reaper }
    }

    /// Ends the tasks of all jobs, with the daemon. The next one says of them that they were cut off.
    pub(crate) fn abort(&self) {
        self.underway.lock().clear();
    }

    /// Starts `work` as a job and gives the job's number at once.
    pub(crate) async fn submit<W, F>(&self, request: JobRequest, work: W) -> Result<JobId, Error>
    where
        W: FnOnce(JobControl) -> F + Send + 'static,
        F: Future<Output = Result<JobResult, Error>> + Send + 'static,
    {
        let work: Work = Box::new(move |control| Box::pin(work(control)));
        self.ask(|reply| JobMessage::Submit { request, work, reply }).await
    }

    pub(crate) async fn cancel(&self, job: JobId) -> Result<(), Error> {
        self.ask(|reply| JobMessage::Cancel { job, reply }).await
    }

    /// Waits until the actor is up.
    pub(crate) async fn up(&self, deadline: Duration) {
        self.slot.current(deadline).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> JobMessage) -> Result<T, Error> {
        ask(&self.slot, "jobs", message).await?
    }

    /// The actor as a child of the root.
    pub(crate) fn child_spec(&self, board: Board, store: StoreHandle, retention: Duration) -> ChildSpec {
        let jobs = self.clone();
        ChildSpec::new("jobs", move |child: ChildContext| {
            let (jobs, board, store) = (jobs.clone(), board.clone(), store.clone());
            async move {
                let lease = child.lease.clone();
                let state = State { jobs, board, store, retention, _lease: lease };
                child.spawn(JobsActor, state).await
            }
        })
        .published_in(&self.slot)
    }
}

/// A job's own view of itself.
#[derive(Clone, Debug)]
pub(crate) struct JobControl {
    shared: Arc<Shared>,
    cancelled: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    board: Board,
    picture: Mutex<(JobSnapshot, Instant)>,
}

impl JobControl {
    /// Its number.
    pub(crate) fn id(&self) -> JobId {
        self.shared.picture.lock().unwrap_or_else(PoisonError::into_inner).0.id
    }

    /// What it does from now on, as one word.
    pub(crate) fn stage(&self, stage: &str) {
        self.shared.update(true, |job| {
            stage.clone_into(&mut job.stage);
            job.progress = None;
        });
    }

    /// How many bytes of how many are done.
    pub(crate) fn bytes(&self, completed: u64, total: u64) {
        self.shared.update(completed == total, |job| {
            job.completed_bytes = completed;
            job.total_bytes = total;
            #[expect(clippy::cast_precision_loss, reason = "a share to look at")]
            let share = (total > 0).then(|| (completed as f64 / total as f64).clamp(0.0, 1.0));
            job.progress = share;
        });
    }

    /// Whether somebody has cancelled the job.
    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Returns when somebody cancels the job.
    pub(crate) async fn cancelled(&self) {
        let mut cancelled = self.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Shared {
    fn is_final(&self) -> bool {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).0.state.is_final()
    }

    fn update(&self, always: bool, change: impl FnOnce(&mut JobSnapshot)) {
        let mut guard = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        let (job, shown) = &mut *guard;
        if job.state.is_final() {
            return;
        }
        change(job);
        if always || shown.elapsed() >= PROGRESS_INTERVAL {
            *shown = Instant::now();
            self.board.publish_job(job.id, job.clone());
        }
    }
}

/// The jobs that have not been shown to their end. It outlives the actor's incarnations.
#[derive(Clone, Debug, Default)]
struct Underway(Arc<Mutex<BTreeMap<JobId, Running>>>);

#[derive(Debug)]
struct Running {
    row: JobRow,
    shared: Arc<Shared>,
    cancel: watch::Sender<bool>,
    /// What its work came to, once it has ended.
    ended: Option<Ended>,
    /// How often its end could not be stored.
    unstored: u32,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// Its end could not be stored. Says how often that was so before.
    fn not_stored(&mut self) -> u32 {
        let before = self.unstored;
        self.unstored = before.saturating_add(1);
        before
    }
}

#[derive(Clone, Debug)]
struct Ended {
    state: JobState,
    error: Option<(ErrorKind, String)>,
    result: JobResult,
    at: Timestamp,
}

impl Underway {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Running>> {
        // Every change is whole, so a poisoned table is, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Result<JobResult, Error>> for Ended {
    fn from(result: Result<JobResult, Error>) -> Self {
        let at = SystemTime::now().into();
        match result {
            Ok(result) => Self { state: JobState::Done, error: None, result, at },
            Err(error) => {
                let state = match error.kind() {
                    ErrorKind::Cancelled => JobState::Cancelled,
                    ErrorKind::Timeout => JobState::Timeout,
                    _ => JobState::Failed,
                };
                Self { state, error: Some((error.kind(), error.text())), result: JobResult::new(), at }
            }
        }
    }
}

/// What a job gave that belongs into the story of the machine, for people: what is gone.
fn came_to(result: &JobResult) -> String {
    let Some(ResultValue::Orphans(pruned)) = result.get("removed") else { return String::new() };
    let dry = result.get("dry-run") == Some(&ResultValue::Flag(true));
    let named = pruned.iter().take(NAMED).map(|pruned| format!("{} {}", pruned.kind, pruned.name));
    let rest = pruned.len().saturating_sub(NAMED);
    let rest = (rest > 0).then(|| format!("and {rest} more"));
    let names: Vec<String> = named.chain(rest).collect();
    match (pruned.len(), dry) {
        (0, true) => "nothing would be removed: a dry run".to_owned(),
        (0, false) => "nothing was removed".to_owned(),
        (_, true) => format!("would remove {}: a dry run", names.join(", ")),
        (_, false) => format!("removed {}", names.join(", ")),
    }
}

struct JobsActor;

struct State {
    jobs: Jobs,
    board: Board,
    store: StoreHandle,
    retention: Duration,
    _lease: Lease,
}

impl Actor for JobsActor {
    type Msg = JobMessage;
    type State = State;
    type Arguments = State;

    async fn pre_start(&self, _myself: ActorRef<JobMessage>, state: State) -> Result<State, ActorProcessingErr> {
        Ok(state)
    }

    async fn post_start(&self, myself: ActorRef<JobMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let ended: BTreeMap<JobId, bool> =
            state.jobs.underway.lock().iter().map(|(id, job)| (*id, job.ended.is_some())).collect();
        let alive: Vec<JobId> = ended.keys().copied().collect();
        let now = Timestamp::from(SystemTime::now());
        let cut = state.store.call_now(move |store| store.jobs_cut_off(&alive, now)).await?;
        // Those whose end was lost with the incarnation before this one.
        for job in ended.iter().filter_map(|(id, ended)| ended.then_some(*id)) {
            let _ = myself.send_message(JobMessage::Finished { job });
        }
        for job in state.board.jobs().all() {
            let mut job = JobSnapshot::clone(&job);
            if ended.contains_key(&job.id) {
                continue;
            }
            if let Some(row) = cut.iter().find(|row| row.id == job.id) {
                job.state = row.state;
                job.error = row.error.as_ref().map(|error| (error.kind, error.message.clone()));
                job.finished_at = row.finished_at;
                job.cancellable = false;
                state.board.publish_job(job.id, job.clone());
            }
            let job = job.id;
            myself.send_after(state.retention, move || JobMessage::Expired { job });
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<JobMessage>,
        message: JobMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.jobs");
        match message {
            JobMessage::Submit { request, work, reply } => {
                let _ = reply.send(state.submit(request, work).await);
            }
            JobMessage::Cancel { job, reply } => {
                let _ = reply.send(state.cancel(job));
            }
            JobMessage::Finished { job } => state.finish(&myself, job).await,
            JobMessage::Expired { job } => state.board.withdraw_job(&job),
        }
        Ok(())
    }
}

impl State {
    async fn submit(&self, request: JobRequest, work: Work) -> Result<JobId, Error> {
        let created_at: Timestamp = SystemTime::now().into();
        let new = NewJob {
            kind: request.kind,
            objects: request.objects.iter().map(ToString::to_string).collect(),
            state: JobState::Running,
            sender: request.origin.sender.clone(),
            request: request.origin.request.to_string(),
            created_at,
        };
        let row = self.store.call_now(move |store| store.insert_job(&new)).await?;
        let id = row.id;
        let picture = JobSnapshot {
            id,
            kind: request.kind,
            objects: request.objects,
            state: JobState::Running,
            stage: String::new(),
            progress: None,
            completed_bytes: 0,
            total_bytes: 0,
            cancellable: request.cancellable,
            bound: request.cancellable && request.origin.bound,
            sender: request.origin.sender,
            error: None,
            result: BTreeMap::new(),
            created_at,
            finished_at: Timestamp::NEVER,
        };
        self.board.publish_job(id, picture.clone());
        let shared = Arc::new(Shared { board: self.board.clone(), picture: Mutex::new((picture, Instant::now())) });
        let (cancel, cancelled) = watch::channel(false);
        let work = work(JobControl { shared: shared.clone(), cancelled });
        let jobs = self.jobs.clone();
        // It has to find itself there.
        let mut underway = self.jobs.underway.lock();
        let task = tokio::spawn(async move {
            // A task of its own, so that a panic in the work is an error of the job and of nothing else.
            let result = match AbortOnDropHandle::new(tokio::spawn(work)).await {
                Ok(result) => result,
                Err(error) if error.is_panic() => Err(Error::caused(ErrorKind::Internal, "the job panicked", error)),
                Err(_) => Err(Error::new(ErrorKind::Cancelled, "the daemon ended the job")),
            };
            if let Some(running) = jobs.underway.lock().get_mut(&id) {
                running.ended = Some(result.into());
            }
            // However long it takes until somebody is there.
            loop {
                if let Some(actor) = jobs.slot.current(ACTOR_DEADLINE).await
                    && actor.send_message(JobMessage::Finished { job: id }).is_ok()
                {
                    break;
                }
                tokio::time::sleep(END_RETRY).await;
            }
        });
        let task = AbortOnDropHandle::new(task);
        underway.insert(id, Running { row, shared, cancel, ended: None, unstored: 0, _task: task });
        Ok(id)
    }

    fn cancel(&self, job: JobId) -> Result<(), Error> {
        let picture = self.board.jobs().get(&job).ok_or_else(|| Error::not_found("job", &job.to_string()))?;
        let underway = self.jobs.underway.lock();
        let Some(running) = underway.get(&job).filter(|running| running.ended.is_none()) else {
            return Err(Error::new(ErrorKind::InvalidState, format!("job {job} has ended: it is {}", picture.state)));
        };
        if !picture.cancellable {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("job {job} ({}) can't be cancelled", picture.kind),
            ));
        }
        running.cancel.send_replace(true);
        Ok(())
    }

    /// Writes down and shows how a job ended. Done again it changes nothing.
    async fn finish(&self, myself: &ActorRef<JobMessage>, id: JobId) {
        let found = self
            .jobs
            .underway
            .lock()
            .get(&id)
            .and_then(|running| Some((running.row.clone(), running.shared.clone(), running.ended.clone()?)));
        let Some((mut row, shared, Ended { state, error, result, at })) = found else { return };
        row.state = state;
        row.finished_at = at;
        row.error = error.as_ref().map(|(kind, message)| Failure { kind: *kind, message: message.clone() });
        // Shown before, it is only to be stored.
        if !shared.is_final() {
            let (request, sender, kind) = (&row.request, &row.sender, row.kind);
            if let Some((_, message)) = &error {
                self.jobs.reaper.look_soon();
                warn!(
                    NEXUS_JOB = id,
                    NEXUS_REQUEST = request,
                    DBUS_SENDER = sender,
                    "job {id} ({kind}) {state}: {message}"
                );
            } else {
                info!(NEXUS_JOB = id, NEXUS_REQUEST = request, DBUS_SENDER = sender, "job {id} ({kind}) done");
            }
        }
        let came_to = came_to(&result);
        let stored = self.store.call_now(move |store| store.update_job(&row, &came_to)).await;
        shared.update(true, |job| {
            job.state = state;
            job.error = error;
            job.result = result;
            job.finished_at = at;
            job.cancellable = false;
        });
        // Whoever waits need not wait for a disk that is full; but what is not stored is tried again.
        if let Err(error) = stored {
            let before = self.jobs.underway.lock().get_mut(&id).map_or(0, Running::not_stored);
            if before == 0 {
                let text = error.text();
                warn!(NEXUS_JOB = id, "the end of job {id} could not be stored, and is as soon as it can be: {text}");
            }
            myself.send_after(STORE_RETRY.delay(before, fastrand::f64()), move || JobMessage::Finished { job: id });
            return;
        }
        self.jobs.underway.lock().remove(&id);
        myself.send_after(self.retention, move || JobMessage::Expired { job: id });
    }
}

#[cfg(test)]
mod tests {
    use nexus_model::ResourceKind;

    use super::*;
    use crate::Pruned;

    #[test]
    fn what_was_removed_is_named_and_a_dry_run_said_to_be_one() {
        let result = |count: usize, dry| {
            let pruned = |number| Pruned { kind: ResourceKind::Console, name: format!("/c/{number}"), bytes: 1 };
            let removed = ResultValue::Orphans((0..count).map(pruned).collect());
            JobResult::from([("removed", removed), ("dry-run", ResultValue::Flag(dry))])
        };
        for (count, dry, text) in [
            (0, false, "nothing was removed"),
            (0, true, "nothing would be removed: a dry run"),
            (2, false, "removed console /c/0, console /c/1"),
            (1, true, "would remove console /c/0: a dry run"),
        ] {
            assert_eq!(came_to(&result(count, dry)), text);
        }
        assert!(came_to(&result(12, false)).ends_with("console /c/9, and 2 more"));
        assert_eq!(came_to(&JobResult::new()), "");
    }
}
