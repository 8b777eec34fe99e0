//! The actor of a workspace.
//!
//! Owns the workspace's row and its folder: makes it from its image when it is new, finishes or undoes what was cut off,
//! and removes it. Supervised by the supervisor of workspaces, one_for_one. A crash loses nothing: the next incarnation
//! reads the row and looks at the folder. What it finds is never destroyed because of a crash.

mod requests;

use std::{sync::Arc, time::Duration};

use nexus_host::storage::{DISK, Progress};
use nexus_model::{
    ErrorKind, Id, Name, WorkspaceState, failpoint,
    restart::{Backoff, Intensity},
};
use nexus_store::{Failure, WorkspaceRow};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::{
    Engine, Error,
    ask::{Reply, ask_within},
    jobs::JobControl,
    snapshot::WorkspaceSnapshot,
    supervisor::{ActorSlot, ChildContext, ChildSpec, GiveUp},
    work::blocking,
};

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30), jitter: 0.2 };
const INTENSITY: Intensity = Intensity { max: 5, window: Duration::from_secs(300) };
/// How long making or removing one may take before its caller is told so. It goes on.
const DEADLINE: Duration = Duration::from_secs(3 * 3600);

/// So many restarts of its actor are waited for while it is being made.
const MADE_TRIES: u32 = 10;

/// What a workspace's actor is asked and told.
pub(crate) enum WorkspaceMessage {
    /// Answer once it is there, or can't be. Progress goes to the job.
    Made { job: Option<JobControl>, reply: Reply<()> },
    /// Remove its folder and its row. `InUse` while a VM has it.
    Remove { reply: Reply<()> },
    /// Somebody changed the row in a transaction with something else: read it again and show it.
    Refresh { reply: Reply<()> },
    /// The copy has ended. From its own task.
    Copied(Result<u64, Error>),
}

/// What outlives the incarnations of a workspace's actor.
#[derive(Debug)]
pub(crate) struct WorkspaceContext {
    pub(crate) id: Id,
    pub(crate) name: Name,
    /// Whether it was there when the daemon started.
    restored: bool,
    slot: ActorSlot<WorkspaceMessage>,
}

impl WorkspaceContext {
    fn new(row: &WorkspaceRow, restored: bool) -> Self {
        Self { id: row.id, name: row.name.clone(), restored, slot: ActorSlot::new() }
    }

    /// Shows the row as it is now. Nothing to do when the actor is not there: it does so when it comes.
    pub(crate) async fn refresh(&self) {
        let _ = self.ask(|reply| WorkspaceMessage::Refresh { reply }).await;
    }

    /// Waits until its actor is up.
    pub(crate) async fn up(&self, deadline: Duration) {
        self.slot.current(deadline).await;
    }

    /// Waits until it is there, or can't be, whichever incarnation of its actor makes it.
    ///
    /// # Errors
    /// Outside when nobody knows, which undoes nothing; inside why it could not be made.
    async fn made(&self, job: &JobControl) -> Result<Result<(), Error>, Error> {
        let whom = format!("workspace `{}`", self.name);
        let mut tries = 0;
        loop {
            let job = Some(job.clone());
            match ask_within(DEADLINE, &self.slot, &whom, |reply| WorkspaceMessage::Made { job, reply }).await {
                // Its actor was restarted, and goes on with it.
                Err(error) if error.kind() == ErrorKind::Internal && tries < MADE_TRIES => tries += 1,
                made => return made,
            }
        }
    }

    async fn ask(&self, message: impl FnOnce(Reply<()>) -> WorkspaceMessage) -> Result<(), Error> {
        ask_within(DEADLINE, &self.slot, &format!("workspace `{}`", self.name), message).await?
    }
}

struct WorkspaceActor;

struct Arguments {
    engine: Engine,
    context: Arc<WorkspaceContext>,
    child: ChildContext,
}

struct State {
    engine: Engine,
    context: Arc<WorkspaceContext>,
    child: ChildContext,
    row: WorkspaceRow,
    copy: Option<(AbortOnDropHandle<()>, Progress)>,
    /// Whether an incarnation before this one may have made the folder.
    resumed: bool,
    job: Arc<std::sync::Mutex<Option<JobControl>>>,
    waiting: Vec<Reply<()>>,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some((_, progress)) = &self.copy {
            progress.cancel();
        }
    }
}

impl Actor for WorkspaceActor {
    type Msg = WorkspaceMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<WorkspaceMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { engine, context, child } = arguments;
        let id = context.id;
        let row = engine.store.call_now(move |store| store.workspace(id)).await?;
        let resumed = child.generation > 1 || context.restored;
        Ok(State { engine, context, child, row, copy: None, resumed, job: Arc::default(), waiting: Vec::new() })
    }

    async fn post_start(
        &self,
        myself: ActorRef<WorkspaceMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match state.row.state {
            WorkspaceState::Creating => {
                state.publish();
                state.copy(&myself);
            }
            WorkspaceState::Removing => {
                state.publish();
                state.engine.resume_workspace_removal(&state.context);
            }
            WorkspaceState::Ready | WorkspaceState::Attached | WorkspaceState::Missing => state.verify().await?,
            WorkspaceState::Failed => {
                state.child.reporter.set_health(nexus_model::Health::Failed);
                state.publish();
            }
        }
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<WorkspaceMessage>,
        message: WorkspaceMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        failpoint("actor.workspace");
        match message {
            WorkspaceMessage::Made { job, reply } => {
                *state.job.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = job;
                if state.row.state == WorkspaceState::Creating {
                    state.waiting.push(reply);
                } else {
                    let _ = reply.send(state.made());
                }
            }
            WorkspaceMessage::Remove { reply } => {
                let _ = reply.send(state.remove().await);
            }
            WorkspaceMessage::Refresh { reply } => {
                let id = state.context.id;
                state.row = state.engine.store.call_now(move |store| store.workspace(id)).await?;
                state.publish();
                let _ = reply.send(Ok(()));
            }
            WorkspaceMessage::Copied(result) => state.copied(result).await?,
        }
        Ok(())
    }
}

impl State {
    /// Makes the folder, in a thread that may block.
    fn copy(&mut self, myself: &ActorRef<WorkspaceMessage>) {
        let job = self.job.clone();
        let progress = Progress::new(move |completed, total| {
            if let Some(job) = &*job.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                job.bytes(completed, total);
            }
        });
        let storage = self.engine.storage.clone();
        let path = self.row.path.clone();
        let base = self.row.base.as_ref().and_then(|base| self.engine.board.images().get(base));
        let lease = self.child.lease.clone();
        let work = progress.clone();
        let copying = tokio::task::spawn_blocking(move || {
            let _lease = lease;
            let base = base.ok_or_else(|| Error::new(ErrorKind::NotFound, "its image is gone"))?;
            storage.snapshot(&base.path, &path, &work)?;
            failpoint("workspace.copied");
            let disk = path.join(DISK);
            let size = std::fs::metadata(&disk).map(|metadata| metadata.len());
            size.map_err(|error| {
                Error::caused(ErrorKind::StorageFailed, format!("cannot look at {}", disk.display()), error)
            })
        });
        let myself = myself.clone();
        let task = tokio::spawn(async move {
            let result = copying.await.unwrap_or_else(|error| {
                Err(Error::caused(ErrorKind::Internal, "making the workspace broke off", error))
            });
            let _ = myself.send_message(WorkspaceMessage::Copied(result));
        });
        self.copy = Some((AbortOnDropHandle::new(task), progress));
    }

    async fn copied(&mut self, result: Result<u64, Error>) -> Result<(), Error> {
        if self.copy.take().is_none() {
            // It is being removed.
            return Ok(());
        }
        // Cut off between the rename and the row: the folder is whole.
        let result = match result {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.resumed => {
                match std::fs::metadata(self.row.path.join(DISK)) {
                    Ok(metadata) => Ok(metadata.len()),
                    Err(_) => Err(error),
                }
            }
            other => other,
        };
        let mut row = self.row.clone();
        match result {
            Ok(size) => {
                row.size_bytes = size;
                row.state = if row.vm.is_some() { WorkspaceState::Attached } else { WorkspaceState::Ready };
            }
            Err(error) => {
                warn!(NEXUS_WORKSPACE = %self.row.name, "workspace {} could not be made: {}", self.row.name, error.text());
                row.state = WorkspaceState::Failed;
                row.failure = Some(Failure { kind: error.kind(), message: error.text() });
                self.child.reporter.count_failure();
                self.child.reporter.set_health(nexus_model::Health::Failed);
                self.engine.reaper.look_soon();
            }
        }
        self.store(row).await?;
        for reply in std::mem::take(&mut self.waiting) {
            let _ = reply.send(self.made());
        }
        Ok(())
    }

    /// What its making came to.
    fn made(&self) -> Result<(), Error> {
        match (self.row.state, &self.row.failure) {
            (WorkspaceState::Failed, Some(Failure { kind, message })) => {
                Err(Error::new(*kind, format!("workspace `{}`: {message}", self.row.name)))
            }
            _ => Ok(()),
        }
    }

    /// Whether its disk is where it was.
    async fn verify(&mut self) -> Result<(), Error> {
        let there = self.row.path.join(DISK).is_file();
        let state = match (there, self.row.vm.is_some()) {
            (false, _) => WorkspaceState::Missing,
            (true, true) => WorkspaceState::Attached,
            (true, false) => WorkspaceState::Ready,
        };
        if !there {
            warn!(NEXUS_WORKSPACE = %self.row.name, "the disk of workspace {} is not in {}", self.row.name, self.row.path.display());
            self.child.reporter.count_failure();
            self.child.reporter.set_health(nexus_model::Health::Failed);
        }
        if state == self.row.state {
            self.publish();
            return Ok(());
        }
        let failure = (!there).then(|| Failure {
            kind: ErrorKind::StorageFailed,
            message: format!("its disk is not in {}: put it back, or remove the workspace", self.row.path.display()),
        });
        let row = WorkspaceRow { state, failure, ..self.row.clone() };
        self.store(row).await
    }

    async fn remove(&mut self) -> Result<(), Error> {
        let row = WorkspaceRow { state: WorkspaceState::Removing, ..self.row.clone() };
        self.store(row).await?;
        if let Some((copying, progress)) = self.copy.take() {
            progress.cancel();
            // Or it could land after the removal.
            let _ = copying.await;
            for reply in std::mem::take(&mut self.waiting) {
                let text = format!("workspace `{}` was removed before it was made", self.row.name);
                let _ = reply.send(Err(Error::new(ErrorKind::Cancelled, text)));
            }
        }
        let (storage, path) = (self.engine.storage.clone(), self.row.path.clone());
        blocking(move || Ok(storage.remove(&path)?)).await?;
        failpoint("workspace.removed");
        let id = self.row.id;
        self.engine.store.call_now(move |store| store.delete_workspace(id)).await
    }

    async fn store(&mut self, row: WorkspaceRow) -> Result<(), Error> {
        let stored = row.clone();
        self.engine.store.call_now(move |store| store.update_workspace(&stored)).await?;
        self.row = row;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let row = &self.row;
        let vm = row.vm.and_then(|id| self.engine.vms.all().into_iter().find(|vm| vm.id == id));
        let picture = WorkspaceSnapshot {
            id: row.id,
            name: row.name.clone(),
            backend: row.backend,
            path: row.path.clone(),
            size_bytes: row.size_bytes,
            read_only: row.read_only,
            root_device: true,
            base: row.base.clone(),
            vm: vm.map(|vm| vm.name.clone()),
            state: row.state,
            failure: row.failure.as_ref().map(|failure| (failure.kind, failure.message.clone())),
            created_at: row.created_at,
            attached_at: row.attached_at,
            detached_at: row.detached_at,
        };
        self.engine.board.publish_workspace(row.name.clone(), picture);
    }
}

/// A workspace as a child of the supervisor of all workspaces.
pub(crate) fn child_spec(engine: &Engine, context: &Arc<WorkspaceContext>) -> ChildSpec {
    let (engine, slot) = (engine.clone(), context.slot.clone());
    let context = context.clone();
    let spec = ChildSpec::new(context.name.to_string(), move |child: ChildContext| {
        let (engine, context) = (engine.clone(), context.clone());
        async move { child.clone().spawn(WorkspaceActor, Arguments { engine, context, child }).await }
    });
    ChildSpec {
        backoff: BACKOFF,
        intensity: INTENSITY,
        give_up: GiveUp::Mark(nexus_model::Health::Failed),
        ..spec.published_in(&slot)
    }
}
