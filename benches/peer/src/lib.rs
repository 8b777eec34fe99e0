//! The other end of a bare connection into a guest: it does there, for one connection each, what Nexus is measured against.
//!
//! A connection begins with a [`Request`]. What follows are raw bytes, and the host is who closes: hybrid vsock has no
//! half-close, and loses what its proxy holds when the guest does.

mod request;
mod serve;
mod terminal;

pub use request::{Request, read_line};
pub use serve::serve;
pub use terminal::Terminal;
