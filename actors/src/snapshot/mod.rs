//! What the outside sees: immutable pictures of every object, and the ordered queue of how they change.
//!
//! An actor publishes a picture once the store has it. Getters read the newest picture and never await; the projector
//! reads the queue, so that it sees every transition and in order.

mod board;
mod guest;
mod job;
mod manager;
mod things;
mod vm;

pub use board::{Board, Change, Changes, Update};
pub use guest::{ConnectionSnapshot, ConnectionStatistics, GuestSnapshot};
pub use job::{JobId, JobSnapshot, ObjectRef, ResultValue};
pub use manager::ManagerSnapshot;
pub use things::{AssetSnapshot, ImageSnapshot, WorkspaceSnapshot};
pub use vm::VmSnapshot;
