//! The schema and the steps that lead to it.
//!
//! `user_version` counts the steps that a database has been through. A released step is never edited: a change is a new
//! step, which brings the rows along. That holds for the JSON columns as well: a field added to a type that is kept as
//! JSON needs a step that adds it to the rows there are.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, TransactionBehavior};

/// What marks a database as one of Nexus: "NEXU" in ASCII, in `application_id`.
pub(crate) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"NEXU");

/// Every step, oldest first.
pub(crate) const STEPS: &[&str] = &[include_str!("v1.sql"), include_str!("v2.sql"), include_str!("v3.sql")];

/// A step that failed. The database is as it was before that step.
#[derive(Debug)]
pub(crate) struct StepFailed {
    pub(crate) to: u32,
    pub(crate) source: rusqlite::Error,
}

/// The version that `steps` lead to.
pub(crate) fn version(steps: &[&str]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

/// Takes a database through the steps that it has not been through, each in a transaction of its own. Foreign keys must
/// be off: a step may rebuild a table. They are checked before each commit.
pub(crate) fn migrate(connection: &mut Connection, from: u32, steps: &[&str]) -> Result<(), StepFailed> {
    for (step, to) in steps.iter().zip(1_u32..) {
        if to > from {
            apply(connection, step, to).map_err(|source| StepFailed { to, source })?;
        }
    }
    Ok(())
}

fn apply(connection: &mut Connection, step: &str, to: u32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", to)?;
    let orphan: Option<String> = transaction
        .prepare("SELECT \"table\" FROM pragma_foreign_key_check")?
        .query_map([], |row| row.get(0))?
        .next()
        .transpose()?;
    if let Some(table) = orphan {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY),
            Some(format!("a row of `{table}` refers to a row that is gone")),
        ));
    }
    transaction.commit()
}
