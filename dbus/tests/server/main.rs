//! The server and its client, peer to peer: what is shown of an engine's pictures, and how.

mod fixture;
mod introspection;
mod reading;
mod signals;
mod transitions;
#[path = "../xml/mod.rs"]
mod xml;
