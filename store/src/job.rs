//! Long operations, as a journal: jobs end with the daemon, what is known of them stays.

use nexus_model::{ErrorKind, EventKind, JobKind, JobState, Name, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::{
    Bounds, Error, Failure, NewEvent, Noun, Store, VmOf,
    column::{At, Json, Text},
    event, failure, vm,
};

/// A job that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// The names of what it works on.
    pub objects: Vec<String>,
    /// Queued or running.
    pub state: JobState,
    /// Who asked for it: a unique bus name, or empty for Nexus itself.
    pub sender: String,
    /// The request id of the call that asked for it.
    pub request: String,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// What is remembered of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its number: given out by the store, from 1, never twice.
    pub id: u32,
    /// What it does. Never changes.
    pub kind: JobKind,
    /// The names of what it works on.
    pub objects: Vec<String>,
    /// Where it is in its life.
    pub state: JobState,
    /// How it failed.
    pub error: Option<Failure>,
    /// Who asked for it: a unique bus name, or empty for Nexus itself. Never changes.
    pub sender: String,
    /// The request id of the call that asked for it. Never changes.
    pub request: String,
    /// When it was asked for. Never changes.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl Store {
    /// Stores a new job, and gives it its number. Forgets the oldest of the ended ones when there are too many.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no number or no room, `StorageFailed` when the database fails.
    pub fn insert_job(&mut self, new: &NewJob) -> Result<JobRow, Error> {
        const DOING: &str = "store a new job";
        let keep = self.bounds.jobs;
        self.write(DOING, |transaction| {
            if exhausted(transaction).map_err(Error::doing(DOING))? {
                return Err(Error::JobsExhausted);
            }
            insert(transaction, new, keep).map_err(Error::doing(DOING))
        })
    }

    /// Stores a job as it is now. Once it has ended, `came_to` is what is written down of what came of it; can be empty.
    ///
    /// # Errors
    /// `NotFound`, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn update_job(&mut self, row: &JobRow, came_to: &str) -> Result<(), Error> {
        const DOING: &str = "store a job";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = found(transaction, row.id)?;
            let write = || {
                update(transaction, row)?;
                // Stored again, it has not ended again.
                if stored.finished_at.is_never() && !row.finished_at.is_never() {
                    tell(transaction, bounds, row, came_to)?;
                }
                Ok(())
            };
            write().map_err(Error::doing(DOING))
        })
    }

    /// Ends every job that has not ended, as cancelled, but those of `alive`: whoever did them is gone. Says which they
    /// were.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn jobs_cut_off(&mut self, alive: &[u32], at: Timestamp) -> Result<Vec<JobRow>, Error> {
        const DOING: &str = "end the jobs of the daemon before this one";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let end = || {
                let cut = transaction
                    .prepare_cached(
                        "UPDATE job SET state = :state, error_name = :error_name, finished_at = :at,
                            error_message = 'nexusd ended while the job was under way'
                         WHERE finished_at = 0 AND id NOT IN (SELECT value FROM json_each(:alive)) RETURNING *",
                    )?
                    .query_map(
                        named_params! {
                            ":state": Text(JobState::Cancelled),
                            ":error_name": Text(ErrorKind::Cancelled),
                            ":alive": Json(alive),
                            ":at": At(at),
                        },
                        read,
                    )?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                cut.iter().try_for_each(|row| tell(transaction, bounds, row, ""))?;
                Ok(cut)
            };
            end().map_err(Error::doing(DOING))
        })
    }

    /// The job with this number.
    ///
    /// # Errors
    /// `NotFound`, or `StorageFailed` when the database can't be read.
    pub fn job(&self, id: u32) -> Result<JobRow, Error> {
        found(&self.connection, id)
    }

    /// The jobs, newest first, at most `limit` of them.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, Error> {
        let doing = Error::doing("read the jobs");
        let mut statement =
            self.connection.prepare_cached("SELECT * FROM job ORDER BY id DESC LIMIT :limit").map_err(&doing)?;
        let rows = statement.query_map(named_params! { ":limit": limit }, read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }
}

fn found(connection: &Connection, id: u32) -> Result<JobRow, Error> {
    connection
        .prepare_cached("SELECT * FROM job WHERE id = :id")
        .and_then(|mut statement| statement.query_row(named_params! { ":id": id }, read).optional())
        .map_err(Error::doing("read a job"))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Job, name: id.to_string() })
}

/// Writes down that a job has ended: with its error, or with what came of it.
fn tell(connection: &Connection, bounds: Bounds, row: &JobRow, came_to: &str) -> rusqlite::Result<()> {
    let mut names = row.objects.iter().filter_map(|object| object.strip_prefix("vm/")?.parse::<Name>().ok());
    let vm = match names.next() {
        Some(name) => Some(VmOf { id: vm::id_of(connection, &name)?, name }),
        None => None,
    };
    let event = NewEvent {
        at: row.finished_at,
        vm,
        reason: row.kind.to_string(),
        detail: match &row.error {
            Some(error) => format!("{}: {}", error.kind, error.message),
            None => came_to.to_owned(),
        },
        ..NewEvent::step(EventKind::JobEnded, format!("job/{}", row.id), JobState::Running, row.state)
    };
    event::append(connection, bounds, &event)
}

fn exhausted(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_sequence WHERE name = 'job' AND seq >= :last")?
        .exists(named_params! { ":last": u32::MAX })
}

fn insert(connection: &Connection, new: &NewJob, keep: u32) -> rusqlite::Result<JobRow> {
    let row = connection
        .prepare_cached(
            "INSERT INTO job (kind, objects, state, sender, request, created_at, finished_at)
             VALUES (:kind, :objects, :state, :sender, :request, :created_at, 0) RETURNING *",
        )?
        .query_row(
            named_params! {
                ":kind": Text(new.kind),
                ":objects": Json(&new.objects),
                ":state": Text(new.state),
                ":sender": new.sender,
                ":request": new.request,
                ":created_at": At(new.created_at),
            },
            read,
        )?;
    connection
        .prepare_cached(
            "DELETE FROM job WHERE finished_at <> 0 AND id <=
             (SELECT id FROM job WHERE finished_at <> 0 ORDER BY id DESC LIMIT 1 OFFSET :keep)",
        )?
        .execute(named_params! { ":keep": keep })?;
    Ok(row)
}

fn update(connection: &Connection, row: &JobRow) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE job SET objects = :objects, state = :state, error_name = :error_name,
                error_message = :error_message, finished_at = :finished_at
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": row.id,
            ":objects": Json(&row.objects),
            ":state": Text(row.state),
            ":error_name": row.error.as_ref().map(|error| Text(error.kind)),
            ":error_message": row.error.as_ref().map(|error| &error.message),
            ":finished_at": At(row.finished_at),
        })
}

fn read(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get("id")?,
        kind: row.get::<_, Text<_>>("kind")?.0,
        objects: row.get::<_, Json<_>>("objects")?.0,
        state: row.get::<_, Text<_>>("state")?.0,
        error: failure::read(row)?,
        sender: row.get("sender")?,
        request: row.get("request")?,
        created_at: row.get::<_, At>("created_at")?.0,
        finished_at: row.get::<_, At>("finished_at")?.0,
    })
}
