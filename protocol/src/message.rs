//! What the agent says on a control connection.

use std::{collections::BTreeMap, net::IpAddr};

use nexus_model::ExitStatus;
use serde::{Deserialize, Serialize};

use crate::{
    Blob, Event, Features, FileContent, Opened, OpenedTerminal, Refreshed, StreamList, TerminalInfo, Text, Token,
};

/// One frame from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// A request was done.
    Answer {
        /// The request's number.
        id: u64,
        /// What came of it.
        answer: Answer,
    },
    /// A request was not done.
    Failure {
        /// The request's number.
        id: u64,
        /// Why not.
        failure: Failure,
    },
    /// Something happened that nobody asked for.
    Event(Event),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Call::Hello`](crate::Call::Hello).
    Welcome(Box<Welcome>),
    /// To [`Call::Ping`](crate::Call::Ping).
    Pong,
    /// To [`Call::Run`](crate::Call::Run).
    Ran(Ran),
    /// To [`Call::Exec`](crate::Call::Exec).
    Started(Started),
    /// To [`Call::Detach`](crate::Call::Detach).
    Detached {
        /// Names the command on any connection.
        exec: u64,
    },
    /// To [`Call::WaitExec`](crate::Call::WaitExec).
    Ended(Ended),
    /// To [`Call::ListExecs`](crate::Call::ListExecs), oldest first.
    Execs(Vec<ExecInfo>),
    /// To [`Call::OpenTerminal`](crate::Call::OpenTerminal).
    Terminal(OpenedTerminal),
    /// To [`Call::OpenStream`](crate::Call::OpenStream).
    Opened(Opened),
    /// To [`Call::ListStreams`](crate::Call::ListStreams), oldest first.
    Streams(StreamList),
    /// To [`Call::Refresh`](crate::Call::Refresh).
    Refreshed(Refreshed),
    /// To [`Call::ReadFile`](crate::Call::ReadFile).
    File(FileContent),
    /// To every other call.
    Done,
}

/// What the agent says about itself and its guest. None of it is to be trusted further than the guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol's [`REVISION`](crate::REVISION) that the agent speaks.
    pub revision: u32,
    /// The agent's own version.
    pub agent_version: Text,
    /// Different for each run of the agent: commands of another run are unknown to this one.
    pub run_id: Text,
    /// What the agent is in its guest.
    pub role: Role,
    /// `/proc/sys/kernel/random/boot_id` of the guest: another one means that it was started anew.
    pub boot_id: Text,
    /// The guest's host name.
    pub hostname: Text,
    /// `NAME` of `/etc/os-release` (see `os-release(5)`), or empty.
    pub os_name: Text,
    /// `VERSION_ID` of `/etc/os-release`, or empty.
    pub os_version: Text,
    /// Addresses of every interface but loopback and link-local ones; at most [`Welcome::MAX_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// What `/etc/nexus/image.yaml` holds; at most [`Welcome::MAX_METADATA`] entries of [`Welcome::MAX_METADATA_BYTES`]
    /// altogether. What is over these bytes when it is read is left out.
    #[serde(deserialize_with = "crate::metadata::deserialize")]
    pub metadata: BTreeMap<Text, Text>,
    /// Why `metadata` is empty although the file is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_problem: Option<Text>,
    /// Microseconds since the guest booted, by its clock (`CLOCK_BOOTTIME`).
    pub uptime_us: u64,
    /// What this agent can beyond what every agent of the revision can.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    /// The port of the terminal that is opened next, if there is one left; of agents with the feature
    /// [`SPARES`](Features::SPARES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_terminal: Option<u32>,
}

impl Welcome {
    /// Most addresses in a welcome.
    pub const MAX_ADDRESSES: usize = 64;
    /// Most entries of image metadata in a welcome.
    pub const MAX_METADATA: usize = 256;
    /// Most bytes of image metadata in a welcome, names and values together.
    pub const MAX_METADATA_BYTES: usize = 64 * 1024;
}

/// What the agent is in its guest, which decides how it takes the guest down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Process 1 of the guest.
    Init,
    /// A service under the guest's own init.
    Service,
    /// A process without a guest of its own.
    Process,
}

/// Outcome of [`Call::Run`](crate::Call::Run).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How the command ended.
    pub status: ExitStatus,
    /// It was killed because its time was up.
    pub timed_out: bool,
    /// Standard output.
    pub stdout: Blob,
    /// Standard error.
    pub stderr: Blob,
    /// More was written than these hold: see [`MAX_RUN_OUTPUT_BYTES`](crate::MAX_RUN_OUTPUT_BYTES).
    pub truncated: bool,
}

/// Outcome of [`Call::Exec`](crate::Call::Exec).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Names the command for as long as the agent runs and remembers it.
    pub exec: u64,
    /// Opens the command's streams.
    pub token: Token,
    /// All three of them together, as [`StreamInfo::stream`](crate::StreamInfo::stream) says it; of agents with the feature
    /// [`STREAMS`](crate::Features::STREAMS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u64>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// It was killed because its time was up.
    pub timed_out: bool,
}

/// A command in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecInfo {
    /// Names it.
    pub exec: u64,
    /// Whether it runs.
    pub state: ExecState,
    /// Its arguments, cut to [`ExecInfo::MAX_ARGV_BYTES`] altogether, with a `…` at the end then.
    pub argv: Vec<Text>,
    /// The terminal on which it runs, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalInfo>,
}

impl ExecInfo {
    /// Most bytes of arguments shown for a command.
    pub const MAX_ARGV_BYTES: usize = 256;
}

/// Where a command is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecState {
    /// It runs.
    Running,
    /// It ended.
    Ended(Ended),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// One sentence for a person.
    pub message: Text,
}

impl Failure {
    /// A failure in words.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: Text::from(message.as_ref()) }
    }
}

/// Kinds of failure that a host can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// No such program, file, command, terminal or stream; or the command has ended.
    NotFound,
    /// The program is there, but must not or can't be executed.
    NotExecutable,
    /// The request makes no sense, is larger than it may be, names a folder or a user that is not there, or a file of
    /// another type.
    Invalid,
    /// A token is missing, wrong or was used before, or there was no handshake.
    Unauthorized,
    /// The agent does not do that in its role, or has not the means.
    Refused,
    /// The agent does not know this call, or this revision of the protocol.
    Unsupported,
    /// Too many hosts, requests, commands, terminals, viewers, streams, sessions or copies at a time.
    Exhausted,
    /// It was cancelled.
    Cancelled,
    /// The guest is going down, and nothing is begun any more.
    ShuttingDown,
    /// The guest's system failed.
    #[serde(other)]
    System,
}
