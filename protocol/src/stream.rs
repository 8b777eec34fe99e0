//! How a stream begins: one of a command's stdio, or one that was asked for by its purpose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CopyIn, CopyOut, Failure, Token};

/// First frame on a stream, from the host. At most [`MAX_STREAM_FRAME_BYTES`](crate::MAX_STREAM_FRAME_BYTES).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHeader {
    /// Whose stdio.
    pub exec: u64,
    /// The secret from [`Started`](crate::Started).
    pub token: Token,
    /// Which of it.
    pub channel: Channel,
}

/// A stdio channel of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Host to guest.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
}

impl Channel {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Stdin, Self::Stdout, Self::Stderr];
}

/// What a stream is for that belongs to no command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A session of the Model Context Protocol, in which the agent is the server: one JSON-RPC message a line.
    Tools {
        /// Variables for the commands of the session, below their own.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
    },
    /// Files of the host's for the guest.
    CopyIn(CopyIn),
    /// Files of the guest's for the host.
    CopyOut(CopyOut),
}

/// Outcome of [`Call::OpenStream`](crate::Call::OpenStream).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// vsock port on which the stream is awaited.
    pub port: u32,
    /// Opens it, once and soon.
    pub token: Token,
    /// Its number, of agents with the feature [`STREAMS`](crate::Features::STREAMS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u64>,
}

/// First frame on a stream that was asked for by its purpose, from the host. At most
/// [`MAX_STREAM_FRAME_BYTES`](crate::MAX_STREAM_FRAME_BYTES).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The secret from [`Opened`].
    pub token: Token,
}

/// The agent's answer to a [`StreamHeader`], a [`ViewerHeader`](crate::ViewerHeader) or a [`Ticket`]. Raw bytes follow, or the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamAnswer {
    /// What follows is the channel.
    Open,
    /// The stream is of no use.
    Failure(Failure),
}
