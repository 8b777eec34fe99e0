//! The database in numbers.

use std::{fs, io, path::Path};

use crate::{Error, Store, open::WAL, open::beside};

/// The database in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// The version of its schema.
    pub schema_version: u32,
    /// How many tables it has.
    pub table_count: u32,
    /// What it takes on the disk: its file and its write-ahead log.
    pub database_bytes: u64,
}

impl Store {
    /// The database in numbers.
    ///
    /// # Errors
    /// `StorageFailed` when the database or its files can't be read.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let doing = Error::doing("count its tables");
        let schema_version =
            self.connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&doing)?;
        let table_count = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
            )
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(&doing)?;
        Ok(Statistics { schema_version, table_count, database_bytes: database_bytes(&self.path)? })
    }
}

/// What a database takes on the disk: its file and its write-ahead log. Without the store, whose thread may be busy.
///
/// # Errors
/// `StorageFailed` when its files can't be looked at.
pub fn database_bytes(database: &Path) -> Result<u64, Error> {
    let size = fs::metadata(database).map_err(|source| Error::Size { source })?.len();
    match fs::metadata(beside(database, WAL)) {
        Ok(log) => Ok(size + log.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(size),
        Err(source) => Err(Error::Size { source }),
    }
}
