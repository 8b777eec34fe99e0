//! Streams that were handed to clients, of which the agent alone knows more.

use std::{collections::BTreeSet, os::fd::OwnedFd};

use nexus_protocol::{Answer, Call, StreamInfo};

use super::{AgentClient, AgentError};

/// A stream beside the control connection, to be handed to whoever asked for it. It depends on nothing in this process.
#[derive(Debug)]
pub struct OpenedStream {
    /// Its number for [`wait_stream`](AgentClient::wait_stream) and [`close_stream`](AgentClient::close_stream), of agents
    /// with the feature [`STREAMS`](nexus_protocol::Features::STREAMS).
    pub number: Option<u64>,
    /// The stream, in blocking mode.
    pub stream: OwnedFd,
}

impl AgentClient {
    /// The streams that are open, each once, at most [`StreamList::MAX`](nexus_protocol::StreamList::MAX).
    ///
    /// # Errors
    /// [`AgentError::TooOld`]; [`AgentError::Timeout`] after 30 s; [`AgentError::Gone`].
    pub async fn list_streams(&self) -> Result<Vec<StreamInfo>, AgentError> {
        let list = match self.call("list its streams", Call::ListStreams).await? {
            Answer::Streams(list) => list,
            _ => return Err(AgentError::Nonsense),
        };
        let mut seen = BTreeSet::new();
        Ok(list.iter().filter(|info| seen.insert(info.stream)).cloned().collect())
    }

    /// Waits for a stream's end, however long that takes; returns at once when it has ended or has never been.
    ///
    /// # Errors
    /// [`AgentError::Failed`]; [`AgentError::Busy`]; [`AgentError::Gone`].
    pub async fn wait_stream(&self, stream: u64) -> Result<(), AgentError> {
        match self.caller.call(Call::WaitStream { stream }).await? {
            Answer::Done => Ok(()),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Has the agent end a stream. It has only begun to when this returns.
    ///
    /// # Errors
    /// [`AgentError::Failed`] when it has ended already; [`AgentError::TooOld`]; [`AgentError::Timeout`] after 30 s;
    /// [`AgentError::Gone`].
    pub async fn close_stream(&self, stream: u64) -> Result<(), AgentError> {
        self.done("close the stream", Call::CloseStream { stream }).await
    }
}
