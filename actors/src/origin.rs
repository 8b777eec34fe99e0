//! Who asked, for the journal and the audit.

use nexus_model::Id;

/// Where a request came from. It follows the request into every record that is written on its behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Identifies the request: `NEXUS_REQUEST` in the journal.
    pub request: Id,
    /// The caller's unique bus name (`DBUS_SENDER`), or `nexusd` for what the daemon does by itself.
    pub sender: String,
    /// The caller's own words for why, if it gave any.
    pub reason: String,
    /// Whether a job that this starts ends when the caller leaves the bus.
    pub bound: bool,
}
