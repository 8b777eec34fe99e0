//! Streams of the Model Context Protocol.

use std::os::fd::OwnedFd;

use nexus_protocol::{Opened, TOOLS_PORT, Ticket};

use super::{AgentError, stream};
use crate::vsock::Endpoint;

/// Opens the stream that the agent has allowed.
pub(super) async fn open(endpoint: &Endpoint, opened: Opened) -> Result<OwnedFd, AgentError> {
    let Opened { port: TOOLS_PORT, token } = opened else { return Err(AgentError::Nonsense) };
    stream::open(endpoint, TOOLS_PORT, &Ticket { token }).await
}
