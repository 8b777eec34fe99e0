//! Streams beside the control connection.

use std::os::fd::OwnedFd;

use nexus_protocol::{
    MAX_STREAM_FRAME_BYTES, StreamAnswer,
    frame::{read_one, write_one},
};

use serde::Serialize;

use super::AgentError;
use crate::vsock::Endpoint;

/// Opens one on that port with the frame that says what it is for: raw bytes both ways, in blocking mode.
pub(super) async fn open(endpoint: &Endpoint, port: u32, opening: &impl Serialize) -> Result<OwnedFd, AgentError> {
    let mut stream = endpoint.connect(port).await.map_err(AgentError::Unreachable)?;
    write_one(&mut stream, MAX_STREAM_FRAME_BYTES, opening).await.map_err(AgentError::Stream)?;
    match read_one(&mut stream, MAX_STREAM_FRAME_BYTES).await.map_err(AgentError::Stream)? {
        StreamAnswer::Open => stream.into_fd().map_err(AgentError::Descriptor),
        StreamAnswer::Failure(failure) => Err(AgentError::Failed(failure)),
    }
}
