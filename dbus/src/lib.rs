//! `org.workfort.Nexus1` on D-Bus: what serves it (feature `server`) and what calls it (feature `client`).
//!
//! The contract is `interfaces/*.xml`, one file per interface, written by hand; tests hold both sides to it. How it may
//! change is in `docs/api-changes.md`.

#[cfg(feature = "client")]
pub mod client;
mod error;
#[cfg(feature = "server")]
pub mod server;

pub use error::Error;

/// The bus name.
pub const SERVICE: &str = "org.workfort.Nexus1";
/// The object with `Manager` and `ObjectManager`; all others but [`LOG_CONTROL`] are below it.
pub const ROOT: &str = "/org/workfort/Nexus1";
/// The object with `org.freedesktop.LogControl1`, where `systemctl service-log-level` looks for it.
pub const LOG_CONTROL: &str = "/org/freedesktop/LogControl1";
/// Counts the additions to the API; goes up in the commit that makes one. `Since` in the XML is in these numbers.
pub const API_REVISION: u32 = 1;
/// So many calls that are under way are remembered for whoever follows `Manager.OpenAudit`, to be told once they have
/// ended. Who goes on with the list of another daemon has to remember as many that were told.
pub const CALLS_UNDER_WAY: usize = 1024;
