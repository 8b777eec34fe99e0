//! What the servers of the Model Context Protocol have in common, the guest's agent and nexusctl: how a [`Call`] of a
//! [`Tool`] comes from a stream to who does it and how its [`Reply`] goes back, and what the tools take and answer that both
//! have.
//!
//! The SDK wants to be moved between threads, and what does the work must not be. So the SDK's part passes each call on to a
//! task beside [`Server::serve`].

mod call;
mod command;
mod file;
mod handler;
mod progress;
mod server;
mod tool;
mod transport;

pub use call::{Call, Reply};
pub use command::{Ran, RunCommand};
pub use file::{Deleted, Encoding, FileContent, FileDelete, FileRead, FileWrite, Written};
pub use progress::Progress;
pub use rmcp::{
    model::{JsonObject, Tool as Description, ToolAnnotations},
    schemars,
    service::ServerInitializeError,
};
pub use server::Server;
pub use tool::Tool;
pub use transport::AtEnd;
