//! Databases of older schemas.

use std::path::Path;

use nexus_store::Store;
use rusqlite::Connection;

/// Writes a database to a file.
pub(crate) fn build(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
}

/// Opened, such a database has the tables of a new one.
pub(crate) fn assert_tables_become_new(sql: &str) {
    let tables = |path: &Path| -> Vec<(String, String, String)> {
        let connection = Connection::open(path).unwrap();
        let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name";
        let mut statement = connection.prepare(sql).unwrap();
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    build(&old, sql);
    drop(Store::open(&old).unwrap());
    drop(Store::open(&new).unwrap());
    assert_eq!(tables(&old), tables(&new));
}
