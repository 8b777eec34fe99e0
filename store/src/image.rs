//! Master images.

use std::{collections::BTreeMap, path::PathBuf};

use nexus_model::{ArtifactName, ArtifactState, EventKind, Id, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::{
    Error, NewEvent, Noun, Store,
    column::{At, Json, PathText, Text},
    event, workspace,
};

/// What is remembered of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Its id. Never changes.
    pub id: Id,
    /// Its name, unique among images. Never changes.
    pub name: ArtifactName,
    /// Where it is in its life.
    pub state: ArtifactState,
    /// SHA-256 of its disk in lower-case hexadecimal digits; empty until it is ready.
    pub digest: String,
    /// Where its disk is.
    pub path: PathBuf,
    /// The size of its disk.
    pub size_bytes: u64,
    /// What it was made from, in the importer's words. Never changes.
    pub origin: String,
    /// Operating system in it: `NAME` of `os-release(5)`.
    pub os_name: String,
    /// Its version: `VERSION_ID` of `os-release(5)`.
    pub os_version: String,
    /// What its `/etc/nexus/image.yaml` says.
    pub metadata: BTreeMap<String, String>,
    /// When it was made. Never changes.
    pub created_at: Timestamp,
}

impl Store {
    /// Stores a new image.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `Internal` when it is ready without a digest, `ResourcesExhausted` when
    /// there is no room, `StorageFailed` when the database fails.
    pub fn insert_image(&mut self, row: &ImageRow) -> Result<(), Error> {
        const DOING: &str = "store a new image";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            if named(transaction, &row.name).map_err(Error::doing(DOING))?.is_some() {
                return Err(Error::AlreadyExists { noun: Noun::Image, name: row.name.to_string() });
            }
            let created = NewEvent::step(EventKind::ImageCreated, subject(row), "", row.state);
            insert(transaction, row)
                .and_then(|()| event::append(transaction, bounds, &created))
                .map_err(Error::doing(DOING))
        })
    }

    /// Stores an image as it is now. From `Removing` on, no workspace can be made from it.
    ///
    /// # Errors
    /// `NotFound`, `InUse` naming the workspaces made from it when it shall be removed, `Internal` when it is ready
    /// without a digest, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn update_image(&mut self, row: &ImageRow) -> Result<(), Error> {
        const DOING: &str = "store an image";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, row.id, DOING)?;
            if row.state != ArtifactState::Ready {
                unused(transaction, &stored.name, DOING)?;
            }
            update(transaction, row).map_err(Error::doing(DOING))?;
            if stored.state == row.state {
                return Ok(());
            }
            let step = NewEvent::step(EventKind::ImageState, subject(row), stored.state, row.state);
            event::append(transaction, bounds, &step).map_err(Error::doing(DOING))
        })
    }

    /// The image with this id.
    ///
    /// # Errors
    /// `NotFound`, or `StorageFailed` when the database can't be read.
    pub fn image(&self, id: Id) -> Result<ImageRow, Error> {
        found(&self.connection, id, "read an image")
    }

    /// Every image, by name.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn images(&self) -> Result<Vec<ImageRow>, Error> {
        let doing = Error::doing("read the images");
        let mut statement = self.connection.prepare_cached("SELECT * FROM image ORDER BY name").map_err(&doing)?;
        let rows = statement.query_map([], read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// Forgets an image.
    ///
    /// # Errors
    /// `NotFound`, `InUse` naming the workspaces made from it, `ResourcesExhausted` when there is no room,
    /// `StorageFailed` when the database fails.
    pub fn delete_image(&mut self, id: Id) -> Result<(), Error> {
        const DOING: &str = "remove an image";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, id, DOING)?;
            unused(transaction, &stored.name, DOING)?;
            transaction
                .prepare_cached("DELETE FROM image WHERE id = :id")
                .and_then(|mut statement| statement.execute(named_params! { ":id": Text(id) }))
                .and_then(|_| {
                    let removed = NewEvent::step(EventKind::ImageRemoved, subject(&stored), stored.state, "");
                    event::append(transaction, bounds, &removed)
                })
                .map_err(Error::doing(DOING))
        })
    }
}

/// The image with this name, if there is one.
pub(crate) fn named(connection: &Connection, name: &ArtifactName) -> rusqlite::Result<Option<ImageRow>> {
    connection
        .prepare_cached("SELECT * FROM image WHERE name = :name")?
        .query_row(named_params! { ":name": Text(name) }, read)
        .optional()
}

fn subject(row: &ImageRow) -> String {
    format!("image/{}", row.name)
}

fn found(connection: &Connection, id: Id, doing: &'static str) -> Result<ImageRow, Error> {
    connection
        .prepare_cached("SELECT * FROM image WHERE id = :id")
        .and_then(|mut statement| statement.query_row(named_params! { ":id": Text(id) }, read).optional())
        .map_err(Error::doing(doing))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Image, name: id.to_string() })
}

fn unused(connection: &Connection, name: &ArtifactName, doing: &'static str) -> Result<(), Error> {
    let workspaces = workspace::based_on(connection, name).map_err(Error::doing(doing))?;
    if workspaces.is_empty() {
        return Ok(());
    }
    let by = workspaces.into_iter().map(|workspace| format!("workspace {workspace}")).collect();
    Err(Error::InUse { noun: Noun::Image, name: name.to_string(), by })
}

fn insert(connection: &Connection, row: &ImageRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO image (id, name, state, digest, path, size_bytes, origin, os_name, os_version, metadata,
                created_at)
             VALUES (:id, :name, :state, :digest, :path, :size_bytes, :origin, :os_name, :os_version, :metadata,
                :created_at)",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":name": Text(&row.name),
            ":state": Text(row.state),
            ":digest": row.digest,
            ":path": PathText(&row.path),
            ":size_bytes": row.size_bytes,
            ":origin": row.origin,
            ":os_name": row.os_name,
            ":os_version": row.os_version,
            ":metadata": Json(&row.metadata),
            ":created_at": At(row.created_at),
        })?;
    Ok(())
}

fn update(connection: &Connection, row: &ImageRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE image SET state = :state, digest = :digest, path = :path, size_bytes = :size_bytes,
                os_name = :os_name, os_version = :os_version, metadata = :metadata
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":state": Text(row.state),
            ":digest": row.digest,
            ":path": PathText(&row.path),
            ":size_bytes": row.size_bytes,
            ":os_name": row.os_name,
            ":os_version": row.os_version,
            ":metadata": Json(&row.metadata),
        })?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: row.get::<_, Text<_>>("id")?.0,
        name: row.get::<_, Text<_>>("name")?.0,
        state: row.get::<_, Text<_>>("state")?.0,
        digest: row.get("digest")?,
        path: row.get::<_, PathText<PathBuf>>("path")?.0,
        size_bytes: row.get("size_bytes")?,
        origin: row.get("origin")?,
        os_name: row.get("os_name")?,
        os_version: row.get("os_version")?,
        metadata: row.get::<_, Json<_>>("metadata")?.0,
        created_at: row.get::<_, At>("created_at")?.0,
    })
}
