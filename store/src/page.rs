//! Long lists, read piece by piece: nobody holds the store while somebody reads slowly.

use nexus_model::Timestamp;
use rusqlite::{Connection, Row, named_params};

use crate::column::At;

/// Which events or calls are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of the VMs that have or had this name, or of the one with this id.
    pub vm: Option<String>,
    /// Those from then on.
    pub since: Timestamp,
    /// Those until then; [`Timestamp::NEVER`] is no end.
    pub until: Timestamp,
}

/// A piece of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The oldest first.
    pub rows: Vec<T>,
    /// After which number the next piece begins.
    pub next: u64,
    /// Whether that was the newest there is.
    pub last: bool,
}

/// The condition that a [`Filter`] is, of the tables that have those columns.
const WANTED: &str = "(:vm IS NULL OR vm_name = :vm OR vm = :vm) AND at >= :since AND (:until = 0 OR at <= :until)";

/// The rows of `table` that are wanted, from behind the number `after` on, at most `limit` of them.
pub(crate) fn read<T>(
    connection: &Connection,
    table: &str,
    filter: &Filter,
    after: u64,
    limit: u32,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    number: impl Fn(&T) -> u64,
) -> rusqlite::Result<Page<T>> {
    let sql = format!("SELECT * FROM {table} WHERE seq > :after AND {WANTED} ORDER BY seq LIMIT :limit");
    let rows = connection
        .prepare_cached(&sql)?
        .query_map(
            named_params! {
                ":vm": filter.vm,
                ":since": At(filter.since),
                ":until": At(filter.until),
                ":after": after,
                ":limit": limit,
            },
            row,
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let last = rows.len() < limit as usize;
    let next = match rows.last() {
        Some(row) if !last => number(row),
        // Nothing more up to the end of the table, so that part of it need not be looked at again.
        _ => newest(connection, table)?.max(after),
    };
    Ok(Page { rows, next, last })
}

/// The number after which the newest `count` of those that are wanted begin.
pub(crate) fn before_newest(
    connection: &Connection,
    table: &str,
    filter: &Filter,
    count: u32,
) -> rusqlite::Result<u64> {
    let sql = format!("SELECT seq FROM {table} WHERE {WANTED} ORDER BY seq DESC LIMIT 1 OFFSET :count");
    let found = connection
        .prepare_cached(&sql)?
        .query_map(
            named_params! {
                ":vm": filter.vm,
                ":since": At(filter.since),
                ":until": At(filter.until),
                ":count": count,
            },
            |row| row.get(0),
        )?
        .next()
        .transpose()?;
    Ok(found.unwrap_or_default())
}

fn newest(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let newest: Option<u64> =
        connection.prepare_cached(&format!("SELECT max(seq) FROM {table}"))?.query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or_default())
}

/// Forgets all but the last `keep` that were ever numbered. Where one row is added at a time, it takes one away.
pub(crate) fn trim(connection: &Connection, table: &str, newest: i64, keep: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!("DELETE FROM {table} WHERE seq <= :last"))?
        .execute(named_params! { ":last": newest - i64::from(keep) })?;
    Ok(())
}
