//! Streams to a guest over vsock: how its ports are reached ([`Endpoint`]) and what comes of it ([`Stream`]).
//!
//! # Closing
//! Hybrid vsock has no half-close: when one side closes, the proxy ends both directions, and bytes that the proxy had
//! not passed on by then can be lost. A protocol over a [`Stream`] must therefore say within itself where its data ends
//! and have the receiver confirm it before the sender closes.

mod endpoint;
mod hybrid;
mod sidecar;
mod socket;
mod stream;

pub use endpoint::{Endpoint, VsockError};
pub(crate) use sidecar::DEVICE;
pub(crate) use socket::connect_unix;
pub use stream::Stream;
