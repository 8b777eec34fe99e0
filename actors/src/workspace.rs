//! The actor of a workspace.
//!
//! Owns the workspace's row and its folder: makes it from its image when it is new, finishes or undoes what was cut off,
//! and removes it. Supervised by the supervisor of workspaces, one_for_one. A crash loses nothing: the next incarnation
//! reads the row and looks at the folder. What it finds is never destroyed because of a crash.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nexus_host::storage::{DISK, Progress};
use nexus_model::{
    ArtifactName, ErrorKind, Id, JobKind, Name, Timestamp, WorkspaceState,
    restart::{Backoff, Intensity},
};
use nexus_store::{Failure, WorkspaceRow};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::{
    Engine, Error, Origin, WorkspaceUsage,
    ask::{Reply, ask_within},
    jobs::{JobControl, JobRequest, JobResult},
    removals::Removal,
    snapshot::{JobId, ObjectRef, ResultValue, WorkspaceSnapshot},
    supervisor::{ActorSlot, ChildContext, ChildSpec, GiveUp},
    vm::random_id,
    work::{blocking, unbroken},
};

const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30), jitter: 0.2 };
const INTENSITY: Intensity = Intensity { max: 5, window: Duration::from_secs(300) };
/// How long making or removing one may take before its caller is told so. It goes on.
const DEADLINE: Duration = Duration::from_secs(3 * 3600);

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
        let row = engine.store.call(move |store| store.workspace(id)).await?;
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
                state.row = state.engine.store.call(move |store| store.workspace(id)).await?;
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
        }
        let (storage, path) = (self.engine.storage.clone(), self.row.path.clone());
        tokio::task::spawn_blocking(move || storage.remove(&path))
            .await
            .map_err(|error| Error::caused(ErrorKind::Internal, "the removal broke off", error))??;
        let id = self.row.id;
        self.engine.store.call(move |store| store.delete_workspace(id)).await
    }

    async fn store(&mut self, row: WorkspaceRow) -> Result<(), Error> {
        let stored = row.clone();
        self.engine.store.call(move |store| store.update_workspace(&stored)).await?;
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

impl Engine {
    /// Makes a workspace from an image. No name is one that Nexus makes up. The job's result has its path.
    ///
    /// # Errors
    /// `NotFound` when there is no such image; `AlreadyExists`.
    pub async fn create_workspace(
        &self,
        origin: &Origin,
        name: Option<Name>,
        base: ArtifactName,
    ) -> Result<JobId, Error> {
        self.check_accepting()?;
        let name = match name {
            Some(name) => name,
            None => format!("ws-{}", &random_id()?.to_string()[..8]).parse()?,
        };
        let row = self.new_workspace_row(&name, &base, None, SystemTime::now().into())?;
        let (engine, origin) = (self.clone(), origin.clone());
        unbroken(async move { engine.make_workspace(&origin, row).await }).await
    }

    /// Stores a workspace and starts its actor and its job: all of it or nothing.
    async fn make_workspace(&self, origin: &Origin, row: WorkspaceRow) -> Result<JobId, Error> {
        let context = self.claim_workspace(&row)?;
        if let Err(error) = self.store.call(move |store| store.insert_workspace(&row)).await {
            self.workspaces.release(&context.name, &context);
            return Err(error);
        }
        let name = context.name.clone();
        info!(NEXUS_WORKSPACE = %name, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "workspace {name} created");
        let started = async {
            self.start_workspace(&context).await?;
            let object = ObjectRef::Workspace(name);
            let request = JobRequest {
                kind: JobKind::CreateWorkspace,
                objects: vec![object.clone()],
                cancellable: true,
                origin: origin.clone(),
            };
            let (engine, context) = (self.clone(), context.clone());
            let work = move |job: JobControl| async move {
                let made = context.ask(|reply| WorkspaceMessage::Made { job: Some(job.clone()), reply });
                let made = tokio::select! {
                    made = made => made,
                    () = job.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the workspace was not made: cancelled")),
                };
                if let Err(error) = made {
                    engine.undo_workspace(&context).await;
                    return Err(error);
                }
                Ok(JobResult::from([("workspace", ResultValue::Object(object))]))
            };
            self.jobs.submit(request, work).await
        };
        let started = started.await;
        if started.is_err() {
            self.undo_workspace(&context).await;
        }
        started
    }

    /// Removes a workspace that was not made, unless somebody else does.
    async fn undo_workspace(&self, context: &Arc<WorkspaceContext>) {
        let Ok(removal) = self.removals.begin(ObjectRef::Workspace(context.name.clone())) else { return };
        if let Err(left) = self.remove_workspace_now(context, removal).await {
            warn!(NEXUS_WORKSPACE = %context.name, "what is left of it stays: {}", left.text());
        }
    }

    /// Removes a workspace.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while a VM has it; `Busy` when it is being removed already; `StorageFailed`.
    pub async fn remove_workspace(&self, origin: &Origin, name: &Name) -> Result<JobId, Error> {
        let context = self.workspaces.get(name).ok_or_else(|| Error::not_found("workspace", name.as_str()))?;
        if let Some(vm) = self.board.workspaces().get(name).and_then(|workspace| workspace.vm.clone()) {
            return Err(Error::new(
                ErrorKind::InUse,
                format!("workspace `{name}` is the disk of VM `{vm}`: remove the VM first"),
            ));
        }
        let removal = self.removals.begin(ObjectRef::Workspace(name.clone()))?;
        let request = JobRequest {
            kind: JobKind::RemoveWorkspace,
            objects: vec![ObjectRef::Workspace(name.clone())],
            cancellable: false,
            origin: origin.clone(),
        };
        let engine = self.clone();
        self.jobs
            .submit(request, move |_| async move {
                engine.remove_workspace_now(&context, removal).await?;
                Ok(JobResult::new())
            })
            .await
    }

    /// What a workspace takes on the host.
    ///
    /// # Errors
    /// `NotFound`, `StorageFailed`.
    pub async fn workspace_usage(&self, name: &Name) -> Result<WorkspaceUsage, Error> {
        let workspace =
            self.board.workspaces().get(name).ok_or_else(|| Error::not_found("workspace", name.as_str()))?;
        let storage = self.storage.clone();
        let usage = blocking(move || Ok(storage.usage(&workspace.path)?)).await?;
        Ok(WorkspaceUsage {
            apparent_bytes: usage.apparent,
            allocated_bytes: usage.allocated,
            exclusive_bytes: usage.exclusive,
        })
    }

    /// A row of a workspace that is to be made.
    pub(crate) fn new_workspace_row(
        &self,
        name: &Name,
        base: &ArtifactName,
        vm: Option<Id>,
        now: Timestamp,
    ) -> Result<WorkspaceRow, Error> {
        let image = self.board.images().get(base).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no image `{base}`: import one (nexusctl image import PATH {base})"),
            )
        })?;
        Ok(WorkspaceRow {
            id: random_id()?,
            name: name.clone(),
            label: String::new(),
            state: WorkspaceState::Creating,
            failure: None,
            backend: self.storage.kind(),
            path: self.workspace_path(name),
            size_bytes: image.size_bytes,
            read_only: false,
            base: Some(base.clone()),
            vm,
            owner: vm,
            created_at: now,
            attached_at: if vm.is_some() { now } else { Timestamp::NEVER },
            detached_at: Timestamp::NEVER,
        })
    }

    fn workspace_path(&self, name: &Name) -> PathBuf {
        self.settings.folders.workspaces.join(format!("@{name}"))
    }

    /// Takes the name of a workspace that is to be.
    ///
    /// # Errors
    /// `AlreadyExists`; `Busy` while the one that has it is being removed.
    pub(crate) fn claim_workspace(&self, row: &WorkspaceRow) -> Result<Arc<WorkspaceContext>, Error> {
        let claimed = self.workspaces.claim(&row.name, || WorkspaceContext::new(row, false));
        claimed.ok_or_else(|| self.name_taken(ObjectRef::Workspace(row.name.clone())))
    }

    /// Starts the actor of a workspace whose row is there.
    pub(crate) async fn start_workspace(&self, context: &Arc<WorkspaceContext>) -> Result<(), Error> {
        self.start_child(&self.workspaces_supervisor, child_spec(self, context)).await?;
        self.refresh_images().await;
        Ok(())
    }

    /// The context of a workspace that was there before the daemon.
    pub(crate) fn restored_workspace(&self, row: &WorkspaceRow) -> Arc<WorkspaceContext> {
        self.workspaces.get_or_insert(&row.name, || WorkspaceContext::new(row, true))
    }

    /// Removes folder and row, then the actor. Its name is free once that is gone.
    pub(crate) async fn remove_workspace_now(
        &self,
        context: &Arc<WorkspaceContext>,
        _removal: Removal,
    ) -> Result<(), Error> {
        context.ask(|reply| WorkspaceMessage::Remove { reply }).await?;
        self.stop_child(&self.workspaces_supervisor, context.name.as_str()).await?;
        self.board.withdraw_workspace(&context.name);
        self.workspaces.release(&context.name, context);
        self.refresh_images().await;
        info!(NEXUS_WORKSPACE = %context.name, "workspace {} removed", context.name);
        Ok(())
    }

    fn resume_workspace_removal(&self, context: &Arc<WorkspaceContext>) {
        let (engine, context) = (self.clone(), context.clone());
        tokio::spawn(async move {
            let Ok(removal) = engine.removals.begin(ObjectRef::Workspace(context.name.clone())) else { return };
            if let Err(error) = engine.remove_workspace_now(&context, removal).await {
                warn!(NEXUS_WORKSPACE = %context.name, "workspace {} could not be removed: {}", context.name, error.text());
            }
        });
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
