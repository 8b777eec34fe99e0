//! Virtual machines: each has a supervisor of its own (rest_for_one) over the [machine] that owns its VMM process and the
//! [connection] to its guest agent.

mod connection;
mod context;
mod machine;
mod removal;
mod requests;

pub(crate) use context::{Power, VmContext, child_spec};
pub(crate) use requests::random_id;
