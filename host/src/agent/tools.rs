//! Streams of the Model Context Protocol.

use std::os::fd::OwnedFd;

use nexus_protocol::{
    MAX_STREAM_FRAME_BYTES, Opened, StreamAnswer, TOOLS_PORT, Ticket,
    frame::{read_one, write_one},
};

use super::AgentError;
use crate::vsock::Endpoint;

/// Opens the stream that the agent has allowed.
pub(super) async fn open(endpoint: &Endpoint, opened: Opened) -> Result<OwnedFd, AgentError> {
    let Opened { port: TOOLS_PORT, token } = opened else { return Err(AgentError::Nonsense) };
    let mut stream = endpoint.connect(TOOLS_PORT).await.map_err(AgentError::Unreachable)?;
    write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &Ticket { token }).await.map_err(AgentError::Stream)?;
    match read_one(&mut stream, MAX_STREAM_FRAME_BYTES).await.map_err(AgentError::Stream)? {
        StreamAnswer::Open => stream.into_fd().map_err(AgentError::Descriptor),
        StreamAnswer::Failure(failure) => Err(AgentError::Failed(failure)),
    }
}
