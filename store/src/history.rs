//! How VMs came to be in their states: those of the events that are transitions of VMs.

use nexus_model::{
    EventKind, Id, Timestamp,
    vm::{Reason, VmState},
};
use rusqlite::{Connection, Row, named_params};

use crate::{
    Bounds, Error, NewEvent, Store, VmOf, VmRow,
    column::{At, Text},
    event,
};

/// A transition of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// The state that it left.
    pub from: VmState,
    /// The state that it came to.
    pub to: VmState,
    /// Why.
    pub reason: Reason,
    /// One line for people: a VMM's own words, an exit status. Can be empty.
    pub detail: String,
}

impl Store {
    /// The transitions of a VM, newest first, at most `limit` of them. Empty when there never was such a VM.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn history(&self, vm: Id, limit: u32) -> Result<Vec<HistoryEntry>, Error> {
        let doing = Error::doing("read a VM's history");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT at, from_state, to_state, reason, detail FROM event
                 WHERE vm = :vm AND kind = :kind ORDER BY seq DESC LIMIT :limit",
            )
            .map_err(&doing)?;
        let parameters = named_params! { ":vm": Text(vm), ":kind": Text(EventKind::VmState), ":limit": limit };
        let rows = statement.query_map(parameters, read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }
}

/// Writes down a transition of a VM.
pub(crate) fn append(
    connection: &Connection,
    bounds: Bounds,
    vm: &VmRow,
    entry: &HistoryEntry,
) -> rusqlite::Result<()> {
    let event = NewEvent {
        at: entry.at,
        kind: EventKind::VmState,
        subject: format!("vm/{}", vm.name),
        vm: Some(VmOf { name: vm.name.clone(), id: Some(vm.id) }),
        from: entry.from.to_string(),
        to: entry.to.to_string(),
        reason: entry.reason.to_string(),
        detail: entry.detail.clone(),
    };
    event::append(connection, bounds, &event)
}

fn read(row: &Row<'_>) -> rusqlite::Result<HistoryEntry> {
    Ok(HistoryEntry {
        at: row.get::<_, At>("at")?.0,
        from: row.get::<_, Text<_>>("from_state")?.0,
        to: row.get::<_, Text<_>>("to_state")?.0,
        reason: row.get::<_, Text<_>>("reason")?.0,
        detail: row.get("detail")?,
    })
}
