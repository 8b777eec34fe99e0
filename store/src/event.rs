//! What happened, to whatever it was. Kept when that is gone.

use std::{fmt::Display, time::SystemTime};

use nexus_model::{EventKind, Id, Name, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::{
    Bounds, EVENTS_PER_VM, Error, Filter, Page, Store,
    column::{At, Text},
    page,
};

const TABLE: &str = "event";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// What kind of thing it was.
    pub kind: EventKind,
    /// To what: `vm/web`, `workspace/disk`, `image/alpine`, `asset/kernel-6.1`, `job/3`, `supervisor/store`, `daemon`.
    pub subject: String,
    /// The VM that it is about, if there is one.
    pub vm: Option<VmOf>,
    /// The state before; empty where there is none.
    pub from: String,
    /// The state after; empty where there is none.
    pub to: String,
    /// Why, as one word; empty where there is none.
    pub reason: String,
    /// One line for people; can be empty.
    pub detail: String,
}

/// The VM that an event or a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmOf {
    /// Its name.
    pub name: Name,
    /// Its id, where that is known.
    pub id: Option<Id>,
}

/// What is remembered of something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its number: given out by the store, never twice, and larger than that of all before it.
    pub seq: u64,
    /// What happened.
    pub event: NewEvent,
}

impl NewEvent {
    /// Something that happens now.
    #[must_use]
    pub fn now(kind: EventKind, subject: String) -> Self {
        Self {
            at: SystemTime::now().into(),
            kind,
            subject,
            vm: None,
            from: String::new(),
            to: String::new(),
            reason: String::new(),
            detail: String::new(),
        }
    }

    /// A change of state, now; a state is empty where there is none.
    pub(crate) fn step(kind: EventKind, subject: String, from: impl Display, to: impl Display) -> Self {
        Self { from: from.to_string(), to: to.to_string(), ..Self::now(kind, subject) }
    }
}

impl Store {
    /// Writes down what happened. What the store does itself (VMs, disks, images, assets, jobs) it writes down by itself.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn insert_event(&mut self, event: &NewEvent) -> Result<(), Error> {
        const DOING: &str = "write down what happened";
        let bounds = self.bounds;
        self.write(DOING, |transaction| append(transaction, bounds, event).map_err(Error::doing(DOING)))
    }

    /// Whether the daemon that wrote here last was told to end; none when that is not known, or there was none.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn ended_in_order(&self) -> Result<Option<bool>, Error> {
        let (started, stopping) = (EventKind::DaemonStarted, EventKind::DaemonStopping);
        let last = self
            .connection
            .prepare_cached("SELECT kind FROM event WHERE kind IN (:started, :stopping) ORDER BY seq DESC LIMIT 1")
            .and_then(|mut statement| {
                let kinds = named_params! { ":started": Text(started), ":stopping": Text(stopping) };
                statement.query_row(kinds, |row| row.get::<_, Text<EventKind>>(0)).optional()
            })
            .map_err(Error::doing("read how the daemon before this one ended"))?;
        Ok(last.map(|kind| kind.0 == stopping))
    }

    /// What happened, from behind the number `after` on.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn events(&self, filter: &Filter, after: u64, limit: u32) -> Result<Page<EventRow>, Error> {
        page::read(&self.connection, TABLE, filter, after, limit, read, |row| row.seq)
            .map_err(Error::doing("read what happened"))
    }

    /// The number after which the newest `count` events begin.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn events_before_newest(&self, filter: &Filter, count: u32) -> Result<u64, Error> {
        page::before_newest(&self.connection, TABLE, filter, count).map_err(Error::doing("count what happened"))
    }
}

/// Writes down what happened, and forgets what is too old.
pub(crate) fn append(connection: &Connection, bounds: Bounds, event: &NewEvent) -> rusqlite::Result<()> {
    let vm = event.vm.as_ref();
    let id = vm.and_then(|vm| vm.id);
    connection
        .prepare_cached(
            "INSERT INTO event (at, kind, subject, vm, vm_name, from_state, to_state, reason, detail)
             VALUES (:at, :kind, :subject, :vm, :vm_name, :from, :to, :reason, :detail)",
        )?
        .execute(named_params! {
            ":at": At(event.at),
            ":kind": Text(event.kind),
            ":subject": event.subject,
            ":vm": id.map(Text),
            ":vm_name": vm.map(|vm| Text(&vm.name)),
            ":from": event.from,
            ":to": event.to,
            ":reason": event.reason,
            ":detail": event.detail,
        })?;
    page::trim(connection, TABLE, connection.last_insert_rowid(), bounds.events)?;
    if let Some(id) = id {
        connection
            .prepare_cached(
                "DELETE FROM event WHERE vm = :vm AND seq <=
                 (SELECT seq FROM event WHERE vm = :vm ORDER BY seq DESC LIMIT 1 OFFSET :keep)",
            )?
            .execute(named_params! { ":vm": Text(id), ":keep": EVENTS_PER_VM })?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    let event = NewEvent {
        at: row.get::<_, At>("at")?.0,
        kind: row.get::<_, Text<_>>("kind")?.0,
        subject: row.get("subject")?,
        vm: vm_of(row)?,
        from: row.get("from_state")?,
        to: row.get("to_state")?,
        reason: row.get("reason")?,
        detail: row.get("detail")?,
    };
    Ok(EventRow { seq: row.get("seq")?, event })
}

/// The columns `vm` and `vm_name`.
pub(crate) fn vm_of(row: &Row<'_>) -> rusqlite::Result<Option<VmOf>> {
    let name = row.get::<_, Option<Text<_>>>("vm_name")?;
    let id = row.get::<_, Option<Text<_>>>("vm")?;
    Ok(name.map(|name| VmOf { name: name.0, id: id.map(|id| id.0) }))
}
