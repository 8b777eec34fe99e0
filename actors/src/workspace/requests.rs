//! What can be asked about workspaces.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use nexus_model::{ArtifactName, ErrorKind, Id, JobKind, Name, Timestamp, WorkspaceState};
use nexus_store::WorkspaceRow;
use tracing::{info, warn};

use super::{WorkspaceContext, WorkspaceMessage, child_spec};
use crate::{
    Engine, Error, Origin, WorkspaceUsage,
    jobs::{JobControl, JobRequest, JobResult},
    snapshot::{JobId, ObjectRef, ResultValue},
    underway::Hold,
    vm::random_id,
    work::{blocking, unbroken},
};

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
                let made = tokio::select! {
                    made = context.made(&job) => made?,
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
        let Ok(removal) = self.removals.begin_removal(ObjectRef::Workspace(context.name.clone())) else { return };
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
        let removal = self.removals.begin_removal(ObjectRef::Workspace(name.clone()))?;
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
        _removal: Hold<ObjectRef>,
    ) -> Result<(), Error> {
        context.ask(|reply| WorkspaceMessage::Remove { reply }).await?;
        self.stop_child(&self.workspaces_supervisor, context.name.as_str()).await?;
        self.board.withdraw_workspace(&context.name);
        self.workspaces.release(&context.name, context);
        self.refresh_images().await;
        info!(NEXUS_WORKSPACE = %context.name, "workspace {} removed", context.name);
        Ok(())
    }

    pub(super) fn resume_workspace_removal(&self, context: &Arc<WorkspaceContext>) {
        let (engine, context) = (self.clone(), context.clone());
        tokio::spawn(async move {
            let Ok(removal) = engine.removals.begin_removal(ObjectRef::Workspace(context.name.clone())) else { return };
            if let Err(error) = engine.remove_workspace_now(&context, removal).await {
                warn!(NEXUS_WORKSPACE = %context.name, "workspace {} could not be removed: {}", context.name, error.text());
                engine.reaper.look_soon();
            }
        });
    }
}
