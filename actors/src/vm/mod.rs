//! Virtual machines: each has a supervisor of its own (rest_for_one) over the [machine] that owns its VMM process and the
//! supervisor (one_for_one) of its connections: the one to its guest agent ([connection], [dialer]), the spare
//! ones ([spare]), and each [stream] that a client has.

mod complaint;
mod connection;
mod context;
mod create;
mod dialer;
mod files;
mod guest;
mod link;
mod machine;
mod memory;
mod power;
mod provision;
mod removal;
mod spare;
mod standstill;
mod statistics;
mod stream;
mod streams;
mod terminal;

pub(crate) use context::{Power, VmContext, child_spec};
#[cfg(test)]
pub(crate) use context::{children, connections};
pub(crate) use create::random_id;
pub(crate) use removal::Disks;
pub(crate) use spare::FIRST_STREAM;
#[cfg(test)]
pub(crate) use streams::any as stream;
