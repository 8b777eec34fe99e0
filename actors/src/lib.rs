//! The engine: a tree of supervised actors, one for every VM, workspace and connection. No D-Bus type is known here.

mod allowed_path;
mod ask;
mod asset;
mod audit;
mod autostart;
pub mod catalogue;
mod engine;
mod error;
mod found;
mod image;
mod jobs;
#[cfg(test)]
mod law;
mod origin;
mod place;
mod reaper;
mod recorder;
mod registry;
mod request;
mod settings;
pub mod snapshot;
mod statuses;
mod store;
mod subject;
mod supervision;
pub mod supervisor;
mod underway;
mod vm;
mod work;
mod workspace;

pub use audit::{Audit, AuditedCall, AuditedEnd, Caller};
pub use engine::{BusChild, Engine, Tree};
pub use error::Error;
pub use nexus_host::vmm::HostCheck;
pub use nexus_store::{CUT_OFF, CallRow, EventRow, Filter, Page};
pub use origin::Origin;
pub use place::Place;
pub use reaper::{Fate, Orphan, Pruned};
pub use request::{
    GuestCommand, GuestCopyIn, GuestFile, GuestOutcome, GuestShell, GuestStreams, GuestTerminal, GuestTerminalInfo,
    HistoryLine, ImportAsset, ImportImage, Prune, RemoveOptions, StopOptions, VmSetting, WorkspaceUsage,
};
pub use settings::{Folders, Settings};
pub use store::Written;
pub use subject::Subject;
