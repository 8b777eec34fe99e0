//! The server and its client, peer to peer: what is shown of an engine's pictures, and how.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what can't be had fails the test, and a test that can't run says why"
)]

mod bus;
mod calls;
mod fixture;
mod introspection;
mod reading;
mod records;
mod signals;
mod transitions;
#[path = "../xml/mod.rs"]
mod xml;
