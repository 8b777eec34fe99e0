//! Streams beside the control connection.

use std::os::fd::OwnedFd;

use nexus_protocol::{
    MAX_STREAM_FRAME_BYTES, StreamAnswer,
    frame::{FrameError, read_one, write_one},
};

use serde::Serialize;

use super::AgentError;
use crate::vsock::{Endpoint, Stream};

/// Opens one on that port with the frame that says what it is for, over a connection that is there already if that is still
/// of use: raw bytes both ways, in blocking mode.
pub(super) async fn open(
    endpoint: &Endpoint,
    port: u32,
    spare: Option<Stream>,
    opening: &impl Serialize,
) -> Result<OwnedFd, AgentError> {
    if let Some(spare) = spare {
        match begin(spare, opening).await {
            // It went while nobody looked. A secret that the agent has heard of all the same, it refuses.
            Err(AgentError::Stream(FrameError::Io(_))) => {}
            begun => return begun,
        }
    }
    begin(endpoint.connect(port).await.map_err(AgentError::Unreachable)?, opening).await
}

async fn begin(mut stream: Stream, opening: &impl Serialize) -> Result<OwnedFd, AgentError> {
    write_one(&mut stream, MAX_STREAM_FRAME_BYTES, opening).await.map_err(AgentError::Stream)?;
    match read_one(&mut stream, MAX_STREAM_FRAME_BYTES).await.map_err(AgentError::Stream)? {
        StreamAnswer::Open => stream.into_fd().map_err(AgentError::Descriptor),
        StreamAnswer::Failure(failure) => Err(AgentError::Failed(failure)),
    }
}

#[cfg(test)]
mod tests {
    use nexus_protocol::{Ticket, Token};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_that_went_while_it_was_spare_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vsock.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let guest = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut connect = [0; "CONNECT 200\n".len()];
            stream.read_exact(&mut connect).await.unwrap();
            stream.write_all(b"OK 1\n").await.unwrap();
            let ticket: Ticket = read_one(&mut stream, MAX_STREAM_FRAME_BYTES).await.unwrap();
            write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &StreamAnswer::Open).await.unwrap();
            ticket
        });
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let ticket = Ticket { token: Token::from("5ecret") };
        open(&Endpoint::Hybrid { socket }, 200, Some(Stream::Unix(ours)), &ticket).await.unwrap();
        assert_eq!(guest.await.unwrap(), ticket);
    }
}
