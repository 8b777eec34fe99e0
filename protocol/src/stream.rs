//! How a stream of a command's stdio begins.

use serde::{Deserialize, Serialize};

use crate::{Failure, Token};

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

/// The agent's answer to a [`StreamHeader`] or a [`ViewerHeader`](crate::ViewerHeader). Raw bytes follow, or the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamAnswer {
    /// What follows is the channel.
    Open,
    /// The stream is of no use.
    Failure(Failure),
}
