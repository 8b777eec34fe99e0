//! Streams that the agent allows by a ticket.

use std::os::fd::OwnedFd;

use nexus_protocol::{
    MAX_STREAM_FRAME_BYTES, Opened, StreamAnswer, Ticket,
    frame::{read_one, write_one},
};

use super::AgentError;
use crate::vsock::Endpoint;

/// Opens the stream that the agent has allowed, on the port of its purpose.
pub(super) async fn open(endpoint: &Endpoint, opened: Opened, port: u32) -> Result<OwnedFd, AgentError> {
    if opened.port != port {
        return Err(AgentError::Nonsense);
    }
    let token = opened.token;
    let mut stream = endpoint.connect(port).await.map_err(AgentError::Unreachable)?;
    write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &Ticket { token }).await.map_err(AgentError::Stream)?;
    match read_one(&mut stream, MAX_STREAM_FRAME_BYTES).await.map_err(AgentError::Stream)? {
        StreamAnswer::Open => stream.into_fd().map_err(AgentError::Descriptor),
        StreamAnswer::Failure(failure) => Err(AgentError::Failed(failure)),
    }
}
