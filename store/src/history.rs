//! How VMs came to be in their states.

use nexus_model::{
    Id, Timestamp,
    vm::{Reason, VmState},
};
use rusqlite::{Connection, Row, named_params};

use crate::{
    Error, Store,
    column::{At, Text},
};

/// How many transitions of a VM are kept; older ones are forgotten.
pub const HISTORY_PER_VM: u32 = 1000;

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
    /// The transitions of a VM, newest first, at most `limit` of them. Empty when there is no such VM.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn history(&self, vm: Id, limit: u32) -> Result<Vec<HistoryEntry>, Error> {
        let doing = Error::doing("read a VM's history");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT at, from_state, to_state, reason, detail FROM vm_history
                 WHERE vm = :vm ORDER BY seq DESC LIMIT :limit",
            )
            .map_err(&doing)?;
        let rows = statement.query_map(named_params! { ":vm": Text(vm), ":limit": limit }, read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }
}

/// Appends an entry, and forgets the oldest one that is too many.
pub(crate) fn append(connection: &Connection, vm: Id, entry: &HistoryEntry) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO vm_history (vm, at, from_state, to_state, reason, detail)
             VALUES (:vm, :at, :from, :to, :reason, :detail)",
        )?
        .execute(named_params! {
            ":vm": Text(vm),
            ":at": At(entry.at),
            ":from": Text(entry.from),
            ":to": Text(entry.to),
            ":reason": Text(entry.reason),
            ":detail": entry.detail,
        })?;
    connection
        .prepare_cached(
            "DELETE FROM vm_history WHERE vm = :vm AND seq <=
             (SELECT seq FROM vm_history WHERE vm = :vm ORDER BY seq DESC LIMIT 1 OFFSET :keep)",
        )?
        .execute(named_params! { ":vm": Text(vm), ":keep": HISTORY_PER_VM })?;
    Ok(())
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
