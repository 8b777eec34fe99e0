//! The owner of the database.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nexus_model::InstanceId;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::Error;

/// The database, open and locked. Its methods are in the files of the nouns that they are about.
///
/// Dropping it, or losing the process that has it, loses nothing that a method has returned from.
#[derive(Debug)]
pub struct Store {
    // Dropped in this order: the folder is locked for as long as the database is open.
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) instance: InstanceId,
    pub(crate) _folder: File,
}

impl Store {
    /// Which Nexus this is: made with the database, and never changed.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` as one transaction that holds the write lock from its start: all of it happens, or nothing.
    pub(crate) fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Error::doing(action))?;
        let done = work(&transaction)?;
        transaction.commit().map_err(Error::doing(action))?;
        Ok(done)
    }
}
