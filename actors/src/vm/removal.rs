//! How a VM goes, and what is left of it.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nexus_model::{ErrorKind, Id, JobKind, Name, Timestamp, WorkspaceState, failpoint, vm::Desired};
use nexus_store::{Store, WorkspaceRow};
use tracing::{info, warn};

use super::{VmContext, machine::MachineMessage, power::KILL_DEADLINE};
use crate::{
    Engine, Error, Origin, RemoveOptions,
    jobs::JobResult,
    snapshot::{JobId, ObjectRef},
    work::blocking,
};

/// So often the actors of a VM that is gone are asked to go.
const STOP_TRIES: u32 = 10;
/// Between two of those.
const STOP_RETRY: Duration = Duration::from_secs(1);

/// What becomes of a VM's disks when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    /// They stay.
    Keep,
    /// Those that were made for it go with it.
    Own,
    /// All go.
    All,
}

impl Disks {
    /// As it is stored with the VM that is to go, so that a removal which is cut off goes on as it was asked for.
    pub(super) const fn desired(self) -> Desired {
        match self {
            Self::Keep => Desired::Removed,
            Self::Own => Desired::RemovedWithOwnDisks,
            Self::All => Desired::RemovedWithDisks,
        }
    }

    /// What was stored; none for a VM that is to stay.
    pub(super) const fn of(desired: Desired) -> Option<Self> {
        match desired {
            Desired::Removed => Some(Self::Keep),
            Desired::RemovedWithOwnDisks => Some(Self::Own),
            Desired::RemovedWithDisks => Some(Self::All),
            Desired::Running | Desired::Resting | Desired::Stopped => None,
        }
    }
}

impl Engine {
    /// Removes a VM.
    ///
    /// # Errors
    /// `NotFound`; `InvalidState` when it runs, unless forced; `Busy` when it is being removed already; `StorageFailed`.
    pub async fn remove_vm(&self, origin: &Origin, name: &Name, options: RemoveOptions) -> Result<JobId, Error> {
        let picture = self.board.vms().get(name).ok_or_else(|| Error::not_found("VM", name.as_str()))?;
        if picture.lifecycle.state().has_vmm() && !options.force {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "VM `{name}` is {}: stop it first, or remove it with the option `force` (nexusctl: --force)",
                    picture.lifecycle.state()
                ),
            ));
        }
        let disks = if options.remove_workspaces { Disks::All } else { Disks::Keep };
        self.start_removal(origin, name, options.force, disks).await
    }

    async fn start_removal(&self, origin: &Origin, name: &Name, force: bool, disks: Disks) -> Result<JobId, Error> {
        let engine = self.clone();
        let vm = self.vm(name)?;
        let removal = self.removals.begin_removal(ObjectRef::Vm(name.clone()))?;
        self.vm_job(origin, vm, JobKind::RemoveVm, false, move |vm, origin, _| async move {
            let _removal = removal;
            engine.remove(&vm, origin, force, disks).await
        })
        .await
    }

    /// Removes an ephemeral VM that has stopped.
    pub(crate) fn remove_ephemeral(&self, vm: &Arc<VmContext>) {
        self.remove_in_background(vm, Disks::Own);
    }

    /// Goes on with a removal that was cut off.
    pub(super) fn resume_removal(&self, vm: &Arc<VmContext>, disks: Disks) {
        self.remove_in_background(vm, disks);
    }

    fn remove_in_background(&self, vm: &Arc<VmContext>, disks: Disks) {
        let (engine, vm) = (self.clone(), vm.clone());
        tokio::spawn(async move {
            let origin = match Engine::own_origin() {
                Ok(origin) => origin,
                Err(error) => return warn!("{}", error.text()),
            };
            if let Err(error) = engine.start_removal(&origin, &vm.name, true, disks).await
                // Somebody else does, or has done it.
                && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Busy)
            {
                warn!(NEXUS_VM = %vm.name, "VM {} could not be removed: {}", vm.name, error.text());
            }
        });
    }

    /// The machine first, then what the VM leaves behind, then the row, together with what is to become of its disks: a
    /// removal that is cut off goes on at the next start.
    async fn remove(&self, vm: &Arc<VmContext>, origin: Origin, force: bool, disks: Disks) -> Result<JobResult, Error> {
        vm.ask(KILL_DEADLINE, |reply| MachineMessage::Retire { origin: origin.clone(), force, disks, reply }).await?;
        failpoint("remove.retired");
        let folders = [self.settings.folders.vm_runtime(vm.id), self.settings.folders.vm_logs(vm.id)];
        blocking(move || folders.iter().try_for_each(|folder| remove_folder(folder))).await?;
        failpoint("remove.folders");
        self.forget_vm(vm, disks).await?;
        info!(NEXUS_VM = %vm.name, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "VM {} removed", vm.name);
        Ok(JobResult::new())
    }

    /// Row and actors of a VM without a VMM go, and with them those disks that are to go. What is gone already is no error.
    pub(super) async fn forget_vm(&self, vm: &Arc<VmContext>, disks: Disks) -> Result<(), Error> {
        let (id, now) = (vm.id, Timestamp::from(SystemTime::now()));
        let rows = self.store.call(move |store| store.together(|store| forget(store, id, disks, now))).await?;
        failpoint("remove.stored");
        // Its name is free once its actors are gone. Their supervisor may be on its way down; the next one has none of them.
        let mut tries = 0;
        while let Err(error) = self.stop_child(&self.vms_supervisor, vm.name.as_str()).await {
            tries += 1;
            if tries == STOP_TRIES {
                return Err(error);
            }
            tokio::time::sleep(STOP_RETRY).await;
        }
        for stream in vm.streams.all() {
            self.forget_stream(vm, stream.number);
        }
        for number in vm.kept() {
            self.board.withdraw_connection(&(vm.name.clone(), number));
        }
        self.board.withdraw_vm(&vm.name);
        self.refresh_assets();
        self.vms.release(&vm.name, vm);
        for row in rows {
            let Some(context) = self.workspaces.get(&row.name) else { continue };
            failpoint("remove.disk");
            context.refresh().await;
            if row.state == WorkspaceState::Removing {
                // Busy: somebody else removes it.
                let Ok(removal) = self.removals.begin_removal(ObjectRef::Workspace(row.name.clone())) else { continue };
                self.remove_workspace_now(&context, removal).await?;
            }
        }
        Ok(())
    }
}

/// Forgets a VM, if that has not happened yet, and says that its disks are to be removed, if they are. Gives their rows.
pub(super) fn forget(
    store: &mut Store,
    vm: Id,
    disks: Disks,
    now: Timestamp,
) -> Result<Vec<WorkspaceRow>, nexus_store::Error> {
    let mut rows: Vec<WorkspaceRow> = store.workspaces()?.into_iter().filter(|row| row.vm == Some(vm)).collect();
    if let Some(row) = store.vms()?.into_iter().find(|row| row.id == vm) {
        store.delete_vm(vm, row.generation, now)?;
    }
    for row in &mut rows {
        let goes = match disks {
            Disks::Keep => false,
            Disks::Own => row.owner == Some(vm),
            Disks::All => true,
        };
        // A workspace whose making failed is of no use to anybody.
        if goes || row.state == WorkspaceState::Failed {
            *row = WorkspaceRow { state: WorkspaceState::Removing, ..store.workspace(row.id)? };
            store.update_workspace(row)?;
        }
    }
    Ok(rows)
}

/// Removes a folder with all that is in it. Nothing there is success.
pub(super) fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::caused(ErrorKind::StorageFailed, format!("cannot remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}
