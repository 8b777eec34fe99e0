//! What is left of a VM, and how it goes.

use std::{fs, io, path::Path};

use nexus_model::{ErrorKind, Id, Timestamp, WorkspaceState};
use nexus_store::{Store, WorkspaceRow};

use crate::Error;

/// What becomes of a VM's disks when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disks {
    /// They stay.
    Keep,
    /// Those that were made for it go with it.
    Own,
    /// All go.
    All,
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
