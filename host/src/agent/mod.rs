//! Client of the guest agent: one control connection that many callers share ([`AgentClient`]), what the agent says
//! unasked ([`AgentEvents`]), the stdio streams of commands ([`ExecStreams`]), streams to terminals ([`TerminalStream`]),
//! sessions of MCP, and copies of files. The protocol is in [`nexus_protocol`] and `docs/guest-protocol.md`.
//!
//! The guest is hostile. A frame over the limit or without an end, an answer that nobody asked for, a flood of events or
//! a guest that stops reading ends the connection, with the reason ([`Disconnect`]), and nothing else; every call but those that
//! wait for a command has a deadline; and what the guest writes about itself is
//! [`Text`](nexus_protocol::Text), which can be shown.

mod client;
mod connection;
mod error;
mod events;
mod exec;
mod reader;
mod refresh;
mod spare;
mod stream;
mod streams;
mod terminal;
#[cfg(test)]
mod tests;
mod traffic;
mod writer;

pub use client::{AgentClient, RunOutcome};
pub use error::{AgentError, Disconnect};
pub use events::AgentEvents;
pub use exec::ExecStreams;
pub use spare::{Spare, SpareEnd, SpareKind};
pub use streams::OpenedStream;
pub use terminal::TerminalStream;
pub use traffic::{Meter, Traffic};
