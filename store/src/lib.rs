//! What Nexus remembers: one SQLite database in the state folder, with one owner.
//!
//! [`Store`] is synchronous and belongs on a thread of its own. Each method is one transaction that has reached the disk
//! when it returns, so a caller can store its intent and then act. Rows are structs, one file per noun; SQL and the
//! layout of the tables stay in here (`docs/store.md` describes them for whoever opens the database by hand).

mod asset;
mod audit;
mod bounds;
mod column;
mod error;
mod event;
mod failure;
mod header;
mod history;
mod image;
mod job;
mod open;
mod page;
mod schema;
mod statistics;
mod store;
mod vm;
mod workspace;

pub use asset::AssetRow;
pub use audit::{CUT_OFF, CallEnd, CallRow, NewCall, OK};
pub use bounds::{Bounds, EVENTS_PER_VM};
pub use error::{Error, Noun};
pub use event::{EventRow, NewEvent, VmOf};
pub use failure::Failure;
pub use history::HistoryEntry;
pub use image::ImageRow;
pub use job::{JobRow, NewJob};
pub use open::{OpenError, files};
pub use page::{Filter, Page};
pub use statistics::{Statistics, database_bytes};
pub use store::Store;
pub use vm::{AgentRow, NewVm, ProcessRow, VmRow};
pub use workspace::WorkspaceRow;
