//! The gates of the contract that need no server: its own rules, other people's tools, and the last release.

mod compatibility;
mod rules;
mod tools;
#[path = "../xml/mod.rs"]
mod xml;
