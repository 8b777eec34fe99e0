//! The owner of the database.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nexus_model::{InstanceId, failpoint};
use rusqlite::{Connection, TransactionBehavior};

use crate::{Bounds, Error};

/// The database, open and locked. Its methods are in the files of the nouns that they are about.
///
/// Dropping it, or losing the process that has it, loses nothing that a method has returned from.
#[derive(Debug)]
pub struct Store {
    // Dropped in this order: the folder is locked for as long as the database is open.
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) instance: InstanceId,
    pub(crate) bounds: Bounds,
    pub(crate) _folder: File,
}

impl Store {
    /// Keeps so much of what is over, in place of the [default](Bounds::default).
    #[must_use]
    pub const fn keeping(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Grows with every row that is written.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.connection.total_changes()
    }

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

    /// Makes one transaction of several methods: all that `work` calls happens, or nothing does. It has reached the disk
    /// when this returns. Not to be called within `work` itself.
    ///
    /// # Errors
    /// `work`'s own, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn together<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        const DOING: &str = "do several things at once";
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Error::doing(DOING))?;
        let pending = Pending(self);
        let done = work(pending.0)?;
        failpoint("store.before-commit");
        pending.0.connection.execute_batch("COMMIT").map_err(Error::doing(DOING))?;
        failpoint("store.after-commit");
        Ok(done)
    }

    /// As [`Store::together`], for what may be lost with the power, but not with the process: the disk is not waited for.
    /// Whatever is stored later is never on the disk without it.
    ///
    /// # Errors
    /// As those of [`Store::together`].
    pub fn together_unsynced<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let synchronous = |store: &Self, level: &str| {
            store
                .connection
                .pragma_update(None, "synchronous", level)
                .map_err(Error::doing("choose how safely it is written"))
        };
        // The log is written in order, and the next transaction that waits for the disk brings all of it there.
        synchronous(self, "NORMAL")?;
        let done = self.together(work);
        synchronous(self, "FULL")?;
        done
    }

    /// Runs `work` as one transaction that holds the write lock from its start: all of it happens, or nothing. Within
    /// [`Store::together`], as a part of that transaction.
    pub(crate) fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.connection.is_autocommit() {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(Error::doing(action))?;
            let done = work(&transaction)?;
            failpoint("store.before-commit");
            transaction.commit().map_err(Error::doing(action))?;
            failpoint("store.after-commit");
            Ok(done)
        } else {
            let part = self.connection.savepoint().map_err(Error::doing(action))?;
            let done = work(&part)?;
            part.commit().map_err(Error::doing(action))?;
            Ok(done)
        }
    }
}

/// A transaction that is undone unless it was committed: by an error, or by a panic in the work.
struct Pending<'a>(&'a mut Store);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.0.connection.is_autocommit() {
            // Where this fails, SQLite has undone it already.
            let _ = self.0.connection.execute_batch("ROLLBACK");
        }
    }
}
