//! How something failed that people may ask for later.

use nexus_model::ErrorKind;
use rusqlite::Row;

use crate::column::Text;

/// How something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error's name on the bus.
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
}

/// The columns `error_name` and `error_message`, which are null together.
pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Failure>> {
    let kind = row.get::<_, Option<Text<_>>>("error_name")?;
    let message = row.get::<_, Option<String>>("error_message")?;
    Ok(kind.zip(message).map(|(kind, message)| Failure { kind: kind.0, message }))
}
