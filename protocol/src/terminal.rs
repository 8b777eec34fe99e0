//! Commands that run on a terminal.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Command, InvalidCommand, Label, Text, Token};

/// How large a terminal is, in characters: 1 to [`TerminalSize::MAX_COLUMNS`] by 1 to [`TerminalSize::MAX_ROWS`].
/// Whatever is deserialized or made into it is brought into these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TerminalSize {
    columns: u16,
    rows: u16,
}

impl TerminalSize {
    /// Most columns.
    pub const MAX_COLUMNS: u16 = 1000;
    /// Most rows.
    pub const MAX_ROWS: u16 = 500;

    /// The size that comes closest to these.
    #[must_use]
    pub fn new(columns: u32, rows: u32) -> Self {
        let within = |count: u32, most: u16| u16::try_from(count).unwrap_or(u16::MAX).clamp(1, most);
        Self { columns: within(columns, Self::MAX_COLUMNS), rows: within(rows, Self::MAX_ROWS) }
    }

    /// Characters in a row.
    #[must_use]
    pub const fn columns(self) -> u16 {
        self.columns
    }

    /// How many rows.
    #[must_use]
    pub const fn rows(self) -> u16 {
        self.rows
    }
}

impl Default for TerminalSize {
    /// That of the terminal after which most programs shape their output: 80 by 24.
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

impl<'de> Deserialize<'de> for TerminalSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Unbounded {
            columns: u32,
            rows: u32,
        }
        Unbounded::deserialize(deserializer).map(|size| Self::new(size.columns, size.rows))
    }
}

/// What [`Call::OpenTerminal`](crate::Call::OpenTerminal) asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTerminal {
    /// What to run on it; without arguments the user's login shell. Of a terminal that is there already nothing of it
    /// matters, and it must have no arguments.
    pub command: Command,
    /// By which it is found again: as [`OpenTerminal::is_name`] says. Without one its command is killed, with everything
    /// that it started, when nobody looks at it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How large it is to be from now on; as it was when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
    /// What this viewer types is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Whose stream to it this is, as [`StreamInfo::label`](crate::StreamInfo::label) will say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// Why a terminal can't be opened, wherever that is tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerminal {
    /// See [`OpenTerminal::is_name`].
    #[error("a terminal's name is 1 to {} letters, digits, dots, dashes and underscores", OpenTerminal::MAX_NAME_BYTES)]
    Name,
    /// What it should run.
    #[error(transparent)]
    Command(#[from] InvalidCommand),
}

impl OpenTerminal {
    /// Longest name, in bytes.
    pub const MAX_NAME_BYTES: usize = 64;

    /// Whether a terminal may be called that: 1 to [`Self::MAX_NAME_BYTES`] ASCII letters, digits, `.`, `-` and `_`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        (1..=Self::MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_plain)
    }

    /// Whether it could be opened at all. The host asks before it sends, the agent before it opens.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), InvalidTerminal> {
        if self.name.as_deref().is_some_and(|name| !Self::is_name(name)) {
            return Err(InvalidTerminal::Name);
        }
        if self.command.argv.is_empty() { self.command.validate_rest() } else { self.command.validate() }?;
        Ok(())
    }
}

/// Outcome of [`Call::OpenTerminal`](crate::Call::OpenTerminal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedTerminal {
    /// Names the command on it, as [`Started::exec`](crate::Started::exec) does.
    pub exec: u64,
    /// Its vsock port, one of [`TERMINAL_PORTS`](crate::TERMINAL_PORTS).
    pub port: u32,
    /// Opens one stream to it.
    pub token: Token,
    /// It was not there before.
    pub created: bool,
    /// Number of the stream that the token opens, of agents with the feature [`STREAMS`](crate::Features::STREAMS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u64>,
    /// As [`Welcome::next_terminal`](crate::Welcome::next_terminal), from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_terminal: Option<u32>,
}

/// First frame on a viewer's stream, from the host. At most [`MAX_STREAM_FRAME_BYTES`](crate::MAX_STREAM_FRAME_BYTES). Then
/// what is typed goes one way, what is to be shown the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerHeader {
    /// The command on the terminal, as a port may be another terminal's by now.
    pub terminal: u64,
    /// The secret from [`OpenedTerminal`].
    pub token: Token,
}

/// A terminal in the list of commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalInfo {
    /// By which it is found again, if it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// How large it is.
    pub size: TerminalSize,
    /// How many look at it.
    pub viewers: u32,
}
