//! Assets: kernels and the like.

use std::path::PathBuf;

use nexus_model::{ArtifactName, ArtifactState, AssetKind, EventKind, Id, Timestamp, Verification};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::{
    Error, NewEvent, Noun, Store,
    column::{At, PathText, Text},
    event,
};

/// What is remembered of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetRow {
    /// Its id. Never changes.
    pub id: Id,
    /// What it is for. Never changes.
    pub kind: AssetKind,
    /// Its name, unique among assets of every kind, since it is part of its object path. Never changes.
    pub name: ArtifactName,
    /// Where it is in its life.
    pub state: ArtifactState,
    /// Its version; empty when nobody knows.
    pub version: String,
    /// The machine that it is for, as `uname -m` says it.
    pub architecture: String,
    /// SHA-256 of its file in lower-case hexadecimal digits; empty until it is ready.
    pub digest: String,
    /// Where it came from: a path. Never changes.
    pub source: String,
    /// Where its file is.
    pub path: PathBuf,
    /// The uncompressed ELF kernel that was extracted from it, which Firecracker needs.
    pub elf_path: Option<PathBuf>,
    /// How its content was checked.
    pub verification: Verification,
    /// The size of its file.
    pub size_bytes: u64,
    /// Whether it is the one of its kind that is taken when nobody says which; changes by
    /// [`Store::make_default_asset`] alone.
    pub is_default: bool,
    /// When it was made. Never changes.
    pub created_at: Timestamp,
}

impl Store {
    /// Stores a new asset. It is not the default one, whatever the row says.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `Internal` when it is ready without a digest, `ResourcesExhausted` when
    /// there is no room, `StorageFailed` when the database fails.
    pub fn insert_asset(&mut self, row: &AssetRow) -> Result<(), Error> {
        const DOING: &str = "store a new asset";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            if name_taken(transaction, &row.name).map_err(Error::doing(DOING))? {
                return Err(Error::AlreadyExists { noun: Noun::Asset(None), name: row.name.to_string() });
            }
            let created = NewEvent::step(EventKind::AssetCreated, subject(row), "", row.state);
            insert(transaction, row)
                .and_then(|()| event::append(transaction, bounds, &created))
                .map_err(Error::doing(DOING))
        })
    }

    /// Stores an asset as it is now. When it is no longer ready, it is no longer the default one either.
    ///
    /// # Errors
    /// `NotFound`, `InUse` naming the VMs that ask for it when it shall be removed, `Internal` when it is ready without
    /// a digest, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn update_asset(&mut self, row: &AssetRow) -> Result<(), Error> {
        const DOING: &str = "store an asset";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, row.id, DOING)?;
            if row.state == ArtifactState::Removing {
                unused(transaction, &stored, DOING)?;
            }
            update(transaction, row).map_err(Error::doing(DOING))?;
            if stored.state == row.state {
                return Ok(());
            }
            let step = NewEvent::step(EventKind::AssetState, subject(row), stored.state, row.state);
            event::append(transaction, bounds, &step).map_err(Error::doing(DOING))
        })
    }

    /// Makes an asset the default one of its kind, in place of the one that was.
    ///
    /// # Errors
    /// `NotFound`, `InvalidState` unless it is ready, `ResourcesExhausted` when there is no room, `StorageFailed` when
    /// the database fails.
    pub fn make_default_asset(&mut self, id: Id) -> Result<(), Error> {
        const DOING: &str = "make an asset the default one";
        self.write(DOING, |transaction| {
            let stored = found(transaction, id, DOING)?;
            if stored.state != ArtifactState::Ready {
                return Err(Error::NotReady {
                    noun: Noun::Asset(Some(stored.kind)),
                    name: stored.name.to_string(),
                    state: stored.state.to_string(),
                    needed: "ready",
                });
            }
            let change = || {
                transaction
                    .prepare_cached("UPDATE asset SET is_default = 0 WHERE kind = :kind AND is_default = 1")?
                    .execute(named_params! { ":kind": Text(stored.kind) })?;
                transaction
                    .prepare_cached("UPDATE asset SET is_default = 1 WHERE id = :id")?
                    .execute(named_params! { ":id": Text(id) })
            };
            change().map(|_| ()).map_err(Error::doing(DOING))
        })
    }

    /// The asset with this id.
    ///
    /// # Errors
    /// `NotFound`, or `StorageFailed` when the database can't be read.
    pub fn asset(&self, id: Id) -> Result<AssetRow, Error> {
        found(&self.connection, id, "read an asset")
    }

    /// Every asset, by kind and name.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn assets(&self) -> Result<Vec<AssetRow>, Error> {
        let doing = Error::doing("read the assets");
        let mut statement =
            self.connection.prepare_cached("SELECT * FROM asset ORDER BY kind, name").map_err(&doing)?;
        let rows = statement.query_map([], read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// Forgets an asset. When it was the default one of its kind, the newest that is left takes its place.
    ///
    /// # Errors
    /// `NotFound`, `InUse` naming the VMs that ask for it, `ResourcesExhausted` when there is no room, `StorageFailed`
    /// when the database fails.
    pub fn delete_asset(&mut self, id: Id) -> Result<(), Error> {
        const DOING: &str = "remove an asset";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, id, DOING)?;
            unused(transaction, &stored, DOING)?;
            transaction
                .prepare_cached("DELETE FROM asset WHERE id = :id")
                .and_then(|mut statement| statement.execute(named_params! { ":id": Text(id) }))
                .and_then(|_| {
                    let removed = NewEvent::step(EventKind::AssetRemoved, subject(&stored), stored.state, "");
                    event::append(transaction, bounds, &removed)
                })
                .map_err(Error::doing(DOING))?;
            if !stored.is_default {
                return Ok(());
            }
            transaction
                .prepare_cached(
                    "UPDATE asset SET is_default = 1 WHERE id = (SELECT id FROM asset
                     WHERE kind = :kind AND state = 'ready' ORDER BY created_at DESC, name DESC LIMIT 1)",
                )
                .and_then(|mut statement| statement.execute(named_params! { ":kind": Text(stored.kind) }))
                .map(|_| ())
                .map_err(Error::doing(DOING))
        })
    }
}

fn subject(row: &AssetRow) -> String {
    format!("asset/{}", row.name)
}

fn found(connection: &Connection, id: Id, doing: &'static str) -> Result<AssetRow, Error> {
    connection
        .prepare_cached("SELECT * FROM asset WHERE id = :id")
        .and_then(|mut statement| statement.query_row(named_params! { ":id": Text(id) }, read).optional())
        .map_err(Error::doing(doing))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Asset(None), name: id.to_string() })
}

/// VMs ask for assets by name in their specification, where each kind has a key of its own.
fn unused(connection: &Connection, row: &AssetRow, doing: &'static str) -> Result<(), Error> {
    let key = match row.kind {
        AssetKind::Kernel => "$.kernel",
        AssetKind::Initrd => "$.initrd",
    };
    let read = || -> rusqlite::Result<Vec<String>> {
        connection
            .prepare_cached("SELECT name FROM vm WHERE spec ->> :key = :name ORDER BY name")?
            .query_map(named_params! { ":key": key, ":name": Text(&row.name) }, |row| row.get(0))?
            .collect()
    };
    let vms = read().map_err(Error::doing(doing))?;
    if vms.is_empty() {
        return Ok(());
    }
    let by = vms.into_iter().map(|vm| format!("VM {vm}")).collect();
    Err(Error::InUse { noun: Noun::Asset(Some(row.kind)), name: row.name.to_string(), by })
}

fn name_taken(connection: &Connection, name: &ArtifactName) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM asset WHERE name = :name")?.exists(named_params! { ":name": Text(name) })
}

fn insert(connection: &Connection, row: &AssetRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO asset (id, kind, name, state, version, architecture, digest, source, path, elf_path,
                verification, size_bytes, is_default, created_at)
             VALUES (:id, :kind, :name, :state, :version, :architecture, :digest, :source, :path, :elf_path,
                :verification, :size_bytes, 0, :created_at)",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":kind": Text(row.kind),
            ":name": Text(&row.name),
            ":state": Text(row.state),
            ":version": row.version,
            ":architecture": row.architecture,
            ":digest": row.digest,
            ":source": row.source,
            ":path": PathText(&row.path),
            ":elf_path": row.elf_path.as_ref().map(PathText),
            ":verification": Text(row.verification),
            ":size_bytes": row.size_bytes,
            ":created_at": At(row.created_at),
        })?;
    Ok(())
}

fn update(connection: &Connection, row: &AssetRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE asset SET state = :state, version = :version, architecture = :architecture, digest = :digest,
                path = :path, elf_path = :elf_path, verification = :verification, size_bytes = :size_bytes,
                is_default = is_default AND :state = 'ready'
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":state": Text(row.state),
            ":version": row.version,
            ":architecture": row.architecture,
            ":digest": row.digest,
            ":path": PathText(&row.path),
            ":elf_path": row.elf_path.as_ref().map(PathText),
            ":verification": Text(row.verification),
            ":size_bytes": row.size_bytes,
        })?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<AssetRow> {
    Ok(AssetRow {
        id: row.get::<_, Text<_>>("id")?.0,
        kind: row.get::<_, Text<_>>("kind")?.0,
        name: row.get::<_, Text<_>>("name")?.0,
        state: row.get::<_, Text<_>>("state")?.0,
        version: row.get("version")?,
        architecture: row.get("architecture")?,
        digest: row.get("digest")?,
        source: row.get("source")?,
        path: row.get::<_, PathText<PathBuf>>("path")?.0,
        elf_path: row.get::<_, Option<PathText<PathBuf>>>("elf_path")?.map(|path| path.0),
        verification: row.get::<_, Text<_>>("verification")?.0,
        size_bytes: row.get("size_bytes")?,
        is_default: row.get("is_default")?,
        created_at: row.get::<_, At>("created_at")?.0,
    })
}
