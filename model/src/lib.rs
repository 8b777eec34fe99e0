//! The vocabulary of Nexus: names, ids, specifications, states and their legal transitions, and restart arithmetic.
//!
//! Nothing here does I/O, reads a clock or awaits: instants are arguments, randomness is an argument. Every other crate
//! speaks in these types, so a noun means the same thing in the store, on the bus and in the journal.

mod artifact;
mod artifact_state;
mod connection;
mod error_kind;
mod event;
pub mod failpoints;
mod health;
mod id;
mod job;
mod kebab;
mod name;
mod plain;
mod process;
mod requirement;
mod resource;
pub mod restart;
mod time;
pub mod vm;
mod workspace;

pub use artifact::{AssetKind, Verification};
pub use artifact_state::ArtifactState;
pub use connection::{ConnectionKind, ConnectionState, Direction};
pub use error_kind::ErrorKind;
pub use event::EventKind;
pub use failpoints::failpoint;
pub use health::Health;
pub use id::{Id, InstanceId, ParseIdError};
pub use job::{JobKind, JobState};
pub use kebab::UnknownWord;
pub use name::{ArtifactName, InvalidName, Name, path_component};
pub use plain::steers_display;
pub use process::{ExitStatus, ProcessIdentity};
pub use requirement::{Requirement, kvm};
pub use resource::ResourceKind;
pub use time::{Timestamp, microseconds};
pub use workspace::{BackendKind, WorkspaceState};
