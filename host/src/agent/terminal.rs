//! Streams to terminals.

use std::os::fd::OwnedFd;

use nexus_protocol::{OpenedTerminal, TERMINAL_PORTS, ViewerHeader};

use super::{AgentError, stream};
use crate::vsock::{Endpoint, Stream};

/// A viewer of a terminal, to be handed to whoever asked for it. It depends on nothing in this process.
#[derive(Debug)]
pub struct TerminalStream {
    /// Names the command on the terminal for [`wait_exec`](super::AgentClient::wait_exec),
    /// [`signal_exec`](super::AgentClient::signal_exec) and [`resize_exec`](super::AgentClient::resize_exec).
    pub id: u64,
    /// What is typed goes in, what is to be shown comes out, until the command has ended; raw bytes, in blocking mode. To
    /// close it is to look away.
    pub stream: OwnedFd,
    /// Whether the terminal was not there before.
    pub created: bool,
    /// As [`OpenedStream::number`](super::OpenedStream::number).
    pub number: Option<u64>,
    /// Its vsock port.
    pub port: u32,
}

/// Opens a stream to a terminal that was opened.
pub(super) async fn open(
    endpoint: &Endpoint,
    spare: Option<Stream>,
    opened: &OpenedTerminal,
) -> Result<TerminalStream, AgentError> {
    if !TERMINAL_PORTS.contains(&opened.port) {
        return Err(AgentError::Nonsense);
    }
    let header = ViewerHeader { terminal: opened.exec, token: opened.token.clone() };
    let stream = stream::open(endpoint, opened.port, spare, &header).await?;
    Ok(TerminalStream { id: opened.exec, stream, created: opened.created, number: opened.stream, port: opened.port })
}
