//! Proxies for every interface, and typed rows for reading many properties at once.
//!
//! A proxy calls, and follows signals. To read, take a row: [`objects`] gives those of every object in one call,
//! `VmProperties::read` and its like those of one. Paths come from `Manager.Get…` or from a row; nobody builds them.
//!
//! # Deadlines
//! zbus waits for ever unless its builder's `method_timeout` says otherwise. `Job.Wait`, `Guest.Run` and
//! `Guest.WaitExec` may well take longer than that.

mod asset;
mod connection;
mod guest;
mod image;
mod job;
mod manager;

mod objects;
mod row;
mod supervised;
mod supervisor;
mod vm;
mod workspace;

use std::collections::HashMap;

pub use asset::{AssetProperties, AssetProxy};
pub use connection::{ConnectionProperties, ConnectionProxy};
pub use guest::{GuestProperties, GuestProxy};
pub use image::{ImageProperties, ImageProxy};
pub use job::{JobProperties, JobProxy};
pub use manager::{
    JobNew, JobNewStream, JobRemoved, JobRemovedStream, ManagerProperties, ManagerProxy, VmExited, VmExitedStream,
};
pub use objects::{Interfaces, objects, objects_of};
pub use row::Row;
pub use supervised::{SupervisedProperties, SupervisedProxy};
pub use supervisor::{SupervisorProperties, SupervisorProxy};
pub use vm::{Exited, ExitedStream, VmProperties, VmProxy};
pub use workspace::{WorkspaceProperties, WorkspaceProxy};

/// Options of a call, by their lower-kebab keys.
pub type Options<'a> = HashMap<&'a str, zbus::Variant<'a>>;
