//! Copies of files between host and guest.
//!
//! Behind its [`StreamAnswer`](crate::StreamAnswer) such a stream carries a tar archive in chunks, each a length of four
//! bytes, big-endian, and as many bytes, at most 256 KiB (`archive/src/chunk.rs`); an empty one ends it. A frame with a [`CopyReport`]
//! of whoever sent the archive follows.

use serde::{Deserialize, Serialize};

use crate::{Failure, Text};

/// Where to put what the host sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyIn {
    /// An absolute path: of a folder into which it goes under its name, or of what it is to become, in a folder that is
    /// there.
    pub path: String,
    /// Its name on the host. Without one `path` is what it becomes, also where a folder is already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A folder may take the place of another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

/// What to send to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOut {
    /// Its absolute path. A link at the end is sent as a link.
    pub path: String,
}

/// How a copy stands. The sender of an archive says it behind that; the agent, when it is the receiver, says it all the time,
/// Nexus' own every 10 s and any other at least every 30 s, and last when everything is in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyReport {
    /// It is under way.
    Working,
    /// That was all.
    Done(CopyDone),
    /// It came to nothing.
    Failure(Failure),
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyDone {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of content, without the holes that the archive has.
    pub bytes: u64,
    /// Sockets and devices, which are not copied.
    #[serde(default)]
    pub left_out: u64,
    /// SHA-256 of the bytes in the chunks, in hexadecimal digits.
    pub sha256: Text,
}
