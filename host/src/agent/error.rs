//! What goes wrong with a guest agent.

use std::{io, sync::Arc, time::Duration};

use nexus_protocol::{Failure, FailureKind, InvalidCommand, InvalidTerminal, REVISION, Text, frame::FrameError};

use crate::vsock::VsockError;

/// A call to the agent has no result.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No stream to the agent.
    #[error("cannot reach the guest agent")]
    Unreachable(#[source] VsockError),
    /// The agent did not answer in time.
    #[error("the guest agent did not {act} within {} s", deadline.as_secs_f32())]
    Timeout {
        /// What it should have done.
        act: &'static str,
        /// How long it had.
        deadline: Duration,
    },
    /// The connection is gone. The agent has not heard of what it was asked, or may be asked again.
    #[error("the connection to the guest agent is gone")]
    Gone(#[source] Arc<Disconnect>),
    /// The connection went before the answer came. What was asked for may have been done or not.
    #[error(
        "the connection to the guest agent was lost before it answered: whether it did what it was asked is not known"
    )]
    Lost(#[source] Arc<Disconnect>),
    /// A command was started, and killed again.
    #[error("the command is killed, since its streams could not be opened")]
    Streamless(#[source] Box<Self>),
    /// A command was killed because it took longer than it was given.
    #[error("the command was killed: its time was up")]
    TimeUp,
    /// The agent refused, or failed. Its kind says more.
    #[error("the guest agent answered with a failure")]
    Failed(#[source] Failure),
    /// The agent speaks another revision of the protocol: the image holds another version of it.
    #[error("the guest agent speaks revision {theirs} of the protocol, not {REVISION}: build the image again")]
    Revision {
        /// The agent's revision.
        theirs: u32,
    },
    /// The agent is of this revision, but older than what it was asked for.
    #[error("the guest agent {version} can't {act}: build the image again with a newer one")]
    TooOld {
        /// The agent's version.
        version: Text,
        /// What it should have done.
        act: &'static str,
    },
    /// The agent's answer has nothing to do with the question.
    #[error("the guest agent answered something else than was asked")]
    Nonsense,
    /// This machine has no random bytes for the guest.
    #[error("there is no entropy for the guest")]
    Entropy(#[source] io::Error),
    /// Too many calls are under way on this connection.
    #[error("{limit} calls to the guest agent are under way already")]
    Busy {
        /// As many as there may be.
        limit: usize,
    },
    /// What was to be asked does not fit into a message. The agent has not heard of it.
    #[error("this is more than a guest agent can be asked at once")]
    TooLarge(#[source] FrameError),
    /// The command can't be run on any machine.
    #[error("this is not a command")]
    InvalidCommand(#[source] InvalidCommand),
    /// The terminal can't be opened on any machine.
    #[error("this is not a terminal")]
    InvalidTerminal(#[source] InvalidTerminal),
    /// A stream could not be opened.
    #[error("cannot open a stream to the guest")]
    Stream(#[source] FrameError),
    /// A stream's descriptor could not be made ready for another process.
    #[error("cannot hand over a stream to the guest")]
    Descriptor(#[source] io::Error),
}

impl AgentError {
    /// Whether somebody in the guest did what no agent of this revision does. The others may mend by themselves.
    #[must_use]
    pub fn is_breach(&self) -> bool {
        match self {
            Self::Gone(disconnect) | Self::Lost(disconnect) => disconnect.is_breach(),
            Self::Streamless(error) => error.is_breach(),
            Self::Unreachable(error) => matches!(error, VsockError::Protocol { .. }),
            Self::Failed(failure) => !matches!(failure.kind, FailureKind::ShuttingDown | FailureKind::Exhausted),
            Self::Revision { .. } | Self::Nonsense => true,
            Self::Timeout { .. }
            | Self::TimeUp
            | Self::Busy { .. }
            | Self::TooOld { .. }
            | Self::Entropy(_)
            | Self::TooLarge(_)
            | Self::InvalidCommand(_)
            | Self::InvalidTerminal(_)
            | Self::Stream(_)
            | Self::Descriptor(_) => false,
        }
    }
}

/// Why a connection to the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Disconnect {
    /// The agent, the guest or the VMM closed it.
    #[error("it was closed on the guest's side")]
    Closed,
    /// The last [`AgentClient`](super::AgentClient) was dropped, or one was told to hang up.
    #[error("it was closed on the host's side")]
    Dropped,
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[source] io::Error),
    /// A frame that is too large or can't be understood.
    #[error("the guest sent what is no message")]
    Frame(#[source] FrameError),
    /// An answer without a question.
    #[error("the guest answered request {id}, which nobody had made")]
    Unasked {
        /// The number in the answer.
        id: u64,
    },
    /// A frame that was begun and has not come to its end in time.
    #[error("the guest began a message and does not end it")]
    Dripping,
    /// More events than can be meant.
    #[error("the guest flooded the host with events")]
    Flood,
    /// The guest doesn't read what it is sent.
    #[error("the guest does not read")]
    NotReading,
    /// Answers stay away, too many of them.
    #[error("the guest does not answer")]
    NotAnswering,
}

impl Disconnect {
    /// Whether the guest did what no agent does. The others are how connections end.
    #[must_use]
    pub const fn is_breach(&self) -> bool {
        match self {
            Self::Closed | Self::Dropped | Self::Io(_) => false,
            Self::Frame(_)
            | Self::Unasked { .. }
            | Self::Dripping
            | Self::Flood
            | Self::NotReading
            | Self::NotAnswering => true,
        }
    }
}
