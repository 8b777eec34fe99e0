//! The gates of the contract that need no server: its own rules, other people's tools, and the last release.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what can't be had fails the test, and a test that can't run says why"
)]

mod compatibility;
mod rules;
mod sources;
mod tools;
#[path = "../xml/mod.rs"]
mod xml;
