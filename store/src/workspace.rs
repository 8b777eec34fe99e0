//! Workspaces.

use std::path::PathBuf;

use nexus_model::{ArtifactName, ArtifactState, BackendKind, EventKind, Id, Name, Timestamp, WorkspaceState};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::{
    Bounds, Error, Failure, NewEvent, Noun, Store, VmOf, VmRow,
    column::{At, PathText, Text},
    event, failure, image, vm,
};

/// What is remembered of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// Its id. Never changes.
    pub id: Id,
    /// Its name, unique among workspaces. Never changes.
    pub name: Name,
    /// One line of free text.
    pub label: String,
    /// Where it is in its life; `Attached` by [`Store::attach_workspace`] alone.
    pub state: WorkspaceState,
    /// Why it is failed or missing.
    pub failure: Option<Failure>,
    /// How it is kept. Never changes.
    pub backend: BackendKind,
    /// Where its disk is.
    pub path: PathBuf,
    /// The size of its disk, as the guest sees it.
    pub size_bytes: u64,
    /// Whether the guest can't write to it.
    pub read_only: bool,
    /// The image that it was made from. Never changes.
    pub base: Option<ArtifactName>,
    /// The VM whose disk it is.
    pub vm: Option<Id>,
    /// The VM that it was made for, and goes with. Never changes while that VM is there.
    pub owner: Option<Id>,
    /// When it was made. Never changes.
    pub created_at: Timestamp,
    /// When it was last attached.
    pub attached_at: Timestamp,
    /// When it was last detached.
    pub detached_at: Timestamp,
}

impl Store {
    /// Stores a new workspace.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `NotFound` when its base or its owner is not there, `InvalidState` when
    /// its base is not ready, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn insert_workspace(&mut self, row: &WorkspaceRow) -> Result<(), Error> {
        const DOING: &str = "store a new workspace";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            if named(transaction, &row.name).map_err(Error::doing(DOING))? {
                return Err(Error::AlreadyExists { noun: Noun::Workspace, name: row.name.to_string() });
            }
            if let Some(base) = &row.base {
                let image = image::named(transaction, base)
                    .map_err(Error::doing(DOING))?
                    .ok_or_else(|| Error::NotFound { noun: Noun::Image, name: base.to_string() })?;
                if image.state != ArtifactState::Ready {
                    return Err(Error::NotReady {
                        noun: Noun::Image,
                        name: base.to_string(),
                        state: image.state.to_string(),
                        needed: "ready",
                    });
                }
            }
            for id in row.owner.into_iter().chain(row.vm) {
                vm::find(transaction, id).map_err(Error::doing(DOING))?.ok_or_else(|| vm::not_found(id))?;
            }
            let created = NewEvent::step(EventKind::WorkspaceCreated, subject(row), "", row.state);
            insert(transaction, row)
                .and_then(|()| event::append(transaction, bounds, &created))
                .map_err(Error::doing(DOING))
        })
    }

    /// Stores what can change of a workspace: label, state, path, size and whether it is read-only. Whose disk it is
    /// changes by [`Store::attach_workspace`] and [`Store::detach_workspace`] alone.
    ///
    /// # Errors
    /// `NotFound`, `InUse` when it shall be removed and is a VM's disk, `Internal` when state and attachment don't fit,
    /// `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn update_workspace(&mut self, row: &WorkspaceRow) -> Result<(), Error> {
        const DOING: &str = "store a workspace";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, row.id, DOING)?;
            if row.state == WorkspaceState::Removing {
                free(transaction, &stored, DOING)?;
            }
            update(transaction, row)
                .and_then(|()| tell(transaction, bounds, &stored, row, None))
                .map_err(Error::doing(DOING))
        })
    }

    /// Makes a workspace the disk of a VM, and of that one only. To attach it again to the same VM changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `InUse` naming the VM that has it, `InvalidState` unless it is ready, `ResourcesExhausted` when there
    /// is no room, `StorageFailed` when the database fails.
    pub fn attach_workspace(&mut self, id: Id, vm: Id, at: Timestamp) -> Result<WorkspaceRow, Error> {
        const DOING: &str = "attach a workspace";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, id, DOING)?;
            let vm = vm::find(transaction, vm).map_err(Error::doing(DOING))?.ok_or_else(|| vm::not_found(vm))?;
            if stored.vm == Some(vm.id) {
                return Ok(stored);
            }
            free(transaction, &stored, DOING)?;
            if stored.state != WorkspaceState::Ready {
                return Err(Error::NotReady {
                    noun: Noun::Workspace,
                    name: stored.name.to_string(),
                    state: stored.state.to_string(),
                    needed: "ready",
                });
            }
            transaction
                .prepare_cached(
                    "UPDATE workspace SET vm = :vm, state = 'attached', attached_at = :at
                     WHERE id = :id AND vm IS NULL RETURNING *",
                )
                .and_then(|mut statement| {
                    statement.query_row(named_params! { ":id": Text(id), ":vm": Text(vm.id), ":at": At(at) }, read)
                })
                .and_then(|attached| tell(transaction, bounds, &stored, &attached, Some(&vm)).map(|()| attached))
                .map_err(Error::doing(DOING))
        })
    }

    /// Ends a workspace's being a VM's disk. To detach what is not attached changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn detach_workspace(&mut self, id: Id, at: Timestamp) -> Result<WorkspaceRow, Error> {
        const DOING: &str = "detach a workspace";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, id, DOING)?;
            transaction
                .prepare_cached(
                    "UPDATE workspace SET vm = NULL, detached_at = :at,
                        state = CASE state WHEN 'attached' THEN 'ready' ELSE state END
                     WHERE id = :id AND vm IS NOT NULL",
                )
                .and_then(|mut statement| statement.execute(named_params! { ":id": Text(id), ":at": At(at) }))
                .map_err(Error::doing(DOING))?;
            let detached = found(transaction, id, DOING)?;
            let told = || {
                let vm = stored.vm.map(|vm| vm::find(transaction, vm)).transpose()?.flatten();
                tell(transaction, bounds, &stored, &detached, vm.as_ref())
            };
            told().map_err(Error::doing(DOING))?;
            Ok(detached)
        })
    }

    /// The workspace with this id.
    ///
    /// # Errors
    /// `NotFound`, or `StorageFailed` when the database can't be read.
    pub fn workspace(&self, id: Id) -> Result<WorkspaceRow, Error> {
        found(&self.connection, id, "read a workspace")
    }

    /// Every workspace, by name.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn workspaces(&self) -> Result<Vec<WorkspaceRow>, Error> {
        let doing = Error::doing("read the workspaces");
        let mut statement = self.connection.prepare_cached("SELECT * FROM workspace ORDER BY name").map_err(&doing)?;
        let rows = statement.query_map([], read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// Forgets a workspace.
    ///
    /// # Errors
    /// `NotFound`, `InUse` when it is a VM's disk, `ResourcesExhausted` when there is no room, `StorageFailed` when the
    /// database fails.
    pub fn delete_workspace(&mut self, id: Id) -> Result<(), Error> {
        const DOING: &str = "remove a workspace";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, id, DOING)?;
            free(transaction, &stored, DOING)?;
            transaction
                .prepare_cached("DELETE FROM workspace WHERE id = :id")
                .and_then(|mut statement| statement.execute(named_params! { ":id": Text(id) }))
                .and_then(|_| {
                    let removed = NewEvent::step(EventKind::WorkspaceRemoved, subject(&stored), stored.state, "");
                    event::append(transaction, bounds, &removed)
                })
                .map_err(Error::doing(DOING))
        })
    }
}

/// Detaches every workspace of a VM.
pub(crate) fn detach_all(connection: &Connection, bounds: Bounds, vm: &VmRow, at: Timestamp) -> rusqlite::Result<()> {
    let attached = connection
        .prepare_cached("SELECT * FROM workspace WHERE vm = :vm ORDER BY name")?
        .query_map(named_params! { ":vm": Text(vm.id) }, read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut detach = connection.prepare_cached(
        "UPDATE workspace SET vm = NULL, detached_at = :at,
            state = CASE state WHEN 'attached' THEN 'ready' ELSE state END
         WHERE id = :id RETURNING *",
    )?;
    for stored in attached {
        let detached = detach.query_row(named_params! { ":id": Text(stored.id), ":at": At(at) }, read)?;
        tell(connection, bounds, &stored, &detached, Some(vm))?;
    }
    Ok(())
}

fn subject(row: &WorkspaceRow) -> String {
    format!("workspace/{}", row.name)
}

/// Writes down that a workspace came to another state, if it did.
fn tell(
    connection: &Connection,
    bounds: Bounds,
    before: &WorkspaceRow,
    after: &WorkspaceRow,
    vm: Option<&VmRow>,
) -> rusqlite::Result<()> {
    if before.state == after.state {
        return Ok(());
    }
    let event = NewEvent {
        vm: vm.map(|vm| VmOf { name: vm.name.clone(), id: Some(vm.id) }),
        reason: after.failure.as_ref().map(|failure| failure.kind.to_string()).unwrap_or_default(),
        detail: after.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default(),
        ..NewEvent::step(EventKind::WorkspaceState, subject(before), before.state, after.state)
    };
    event::append(connection, bounds, &event)
}

/// The names of the workspaces that were made from an image.
pub(crate) fn based_on(connection: &Connection, image: &ArtifactName) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT name FROM workspace WHERE base = :image ORDER BY name")?
        .query_map(named_params! { ":image": Text(image) }, |row| row.get(0))?
        .collect()
}

fn named(connection: &Connection, name: &Name) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM workspace WHERE name = :name")?
        .exists(named_params! { ":name": Text(name) })
}

fn found(connection: &Connection, id: Id, doing: &'static str) -> Result<WorkspaceRow, Error> {
    connection
        .prepare_cached("SELECT * FROM workspace WHERE id = :id")
        .and_then(|mut statement| statement.query_row(named_params! { ":id": Text(id) }, read).optional())
        .map_err(Error::doing(doing))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Workspace, name: id.to_string() })
}

fn free(connection: &Connection, row: &WorkspaceRow, doing: &'static str) -> Result<(), Error> {
    let Some(id) = row.vm else { return Ok(()) };
    let vm = vm::find(connection, id).map_err(Error::doing(doing))?.ok_or_else(|| vm::not_found(id))?;
    Err(Error::InUse { noun: Noun::Workspace, name: row.name.to_string(), by: vec![format!("VM {}", vm.name)] })
}

fn insert(connection: &Connection, row: &WorkspaceRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO workspace (id, name, label, state, backend, path, size_bytes, read_only, base, vm, owner,
                created_at, attached_at, detached_at, error_name, error_message)
             VALUES (:id, :name, :label, :state, :backend, :path, :size_bytes, :read_only, :base, :vm, :owner,
                :created_at, :attached_at, :detached_at, :error_name, :error_message)",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":name": Text(&row.name),
            ":label": row.label,
            ":state": Text(row.state),
            ":backend": Text(row.backend),
            ":path": PathText(&row.path),
            ":size_bytes": row.size_bytes,
            ":read_only": row.read_only,
            ":base": row.base.as_ref().map(Text),
            ":vm": row.vm.map(Text),
            ":owner": row.owner.map(Text),
            ":created_at": At(row.created_at),
            ":attached_at": At(row.attached_at),
            ":detached_at": At(row.detached_at),
            ":error_name": row.failure.as_ref().map(|failure| Text(failure.kind)),
            ":error_message": row.failure.as_ref().map(|failure| &failure.message),
        })?;
    Ok(())
}

fn update(connection: &Connection, row: &WorkspaceRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE workspace SET label = :label, state = :state, path = :path, size_bytes = :size_bytes,
                read_only = :read_only, error_name = :error_name, error_message = :error_message
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":label": row.label,
            ":state": Text(row.state),
            ":path": PathText(&row.path),
            ":size_bytes": row.size_bytes,
            ":read_only": row.read_only,
            ":error_name": row.failure.as_ref().map(|failure| Text(failure.kind)),
            ":error_message": row.failure.as_ref().map(|failure| &failure.message),
        })?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<WorkspaceRow> {
    Ok(WorkspaceRow {
        id: row.get::<_, Text<_>>("id")?.0,
        name: row.get::<_, Text<_>>("name")?.0,
        label: row.get("label")?,
        state: row.get::<_, Text<_>>("state")?.0,
        failure: failure::read(row)?,
        backend: row.get::<_, Text<_>>("backend")?.0,
        path: row.get::<_, PathText<PathBuf>>("path")?.0,
        size_bytes: row.get("size_bytes")?,
        read_only: row.get("read_only")?,
        base: row.get::<_, Option<Text<_>>>("base")?.map(|base| base.0),
        vm: row.get::<_, Option<Text<_>>>("vm")?.map(|vm| vm.0),
        owner: row.get::<_, Option<Text<_>>>("owner")?.map(|owner| owner.0),
        created_at: row.get::<_, At>("created_at")?.0,
        attached_at: row.get::<_, At>("attached_at")?.0,
        detached_at: row.get::<_, At>("detached_at")?.0,
    })
}
