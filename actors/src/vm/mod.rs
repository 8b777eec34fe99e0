//! Virtual machines: each has a supervisor of its own (rest_for_one) over the [machine] that owns its VMM process and the
//! [connection] to its guest agent.

mod connection;
mod context;
mod create;
mod guest;
mod machine;
mod memory;
mod power;
mod removal;

#[cfg(test)]
pub(crate) use context::children;
pub(crate) use context::{Power, VmContext, child_spec};
pub(crate) use create::random_id;
pub(crate) use removal::Disks;
