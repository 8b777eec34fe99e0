//! Streams of a command's stdio.

use std::os::fd::OwnedFd;

use nexus_protocol::{Channel, STREAM_PORT, Started, StreamHeader};

use super::{AgentError, stream};
use crate::vsock::{Endpoint, Stream};

/// A running command's stdio: raw bytes, in blocking mode, to be handed to whoever asked for the command. They depend
/// on nothing in this process.
///
/// To close `stdin` is to end the command's input. The other two end when the command, and whatever inherited them from
/// it, has closed its side; to close them earlier is to the command as a closed pipe. Nothing is to be written to them.
#[derive(Debug)]
pub struct ExecStreams {
    /// Names the command for [`wait_exec`](super::AgentClient::wait_exec) and
    /// [`signal_exec`](super::AgentClient::signal_exec).
    pub id: u64,
    /// To the command.
    pub stdin: OwnedFd,
    /// From the command.
    pub stdout: OwnedFd,
    /// From the command.
    pub stderr: OwnedFd,
    /// All three together, as [`OpenedStream::number`](super::OpenedStream::number).
    pub number: Option<u64>,
}

/// Opens the three streams of a command that was started.
pub(super) async fn open(
    endpoint: &Endpoint,
    spares: Vec<Stream>,
    started: &Started,
) -> Result<ExecStreams, AgentError> {
    let mut spares = spares.into_iter();
    let mut open = |channel| {
        let header = StreamHeader { exec: started.exec, token: started.token.clone(), channel };
        let spare = spares.next();
        async move { stream::open(endpoint, STREAM_PORT, spare, &header).await }
    };
    let (stdin, stdout, stderr) = tokio::try_join!(open(Channel::Stdin), open(Channel::Stdout), open(Channel::Stderr))?;
    Ok(ExecStreams { id: started.exec, stdin, stdout, stderr, number: started.stream })
}
