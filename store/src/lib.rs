//! What Nexus remembers: one SQLite database in the state folder, with one owner.
//!
//! [`Store`] is synchronous and belongs on a thread of its own. Each method is one transaction that has reached the disk
//! when it returns, so a caller can store its intent and then act. Rows are structs, one file per noun; SQL and the
//! layout of the tables stay in here (`docs/store.md` describes them for whoever opens the database by hand).

mod asset;
mod column;
mod error;
mod failure;
mod header;
mod history;
mod image;
mod job;
mod open;
mod schema;
mod statistics;
mod store;
mod vm;
mod workspace;

pub use asset::AssetRow;
pub use error::{Error, Noun};
pub use failure::Failure;
pub use history::{HISTORY_PER_VM, HistoryEntry};
pub use image::ImageRow;
pub use job::{FINISHED_JOBS, JobRow, NewJob};
pub use open::OpenError;
pub use statistics::{Statistics, database_bytes};
pub use store::Store;
pub use vm::{AgentRow, NewVm, ProcessRow, VmRow};
pub use workspace::WorkspaceRow;
