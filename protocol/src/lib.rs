//! What host and guest agent say to each other, and how it is put on a stream. `docs/guest-protocol.md` tells the whole
//! protocol; the types here are the normative part of it.
//!
//! Of the vsock ports, [`CONTROL_PORT`] carries frames both ways for as long as the guest is up: a [`Request`] by the
//! host, a [`Message`] by the agent. [`STREAM_PORT`] carries one stdio channel of one command a connection: a
//! [`StreamHeader`] by the host, a [`StreamAnswer`] by the agent, raw bytes from then on. Each of [`TERMINAL_PORTS`]
//! carries the viewers of one terminal, a connection each, behind a [`ViewerHeader`]; [`BULK_PORT`] one copy of files a
//! connection and [`TOOLS_PORT`] one session of the Model Context Protocol, both behind a [`Ticket`].
//!
//! Each side takes the other for hostile. Every length is bounded before memory is reserved for it, every parser is
//! total, and [`Text`] is what a host may show of what a guest wrote.

use std::{ops::RangeInclusive, time::Duration};

mod bytes_field;
mod command;
mod copy;
mod event;
mod features;
mod file;
pub mod frame;
pub mod mcp;
mod message;
mod metadata;
mod refresh;
mod request;
mod stream;
mod stream_list;
mod terminal;
mod text;
mod token;

pub use bytes_field::Blob;
pub use command::{Command, Exec, InvalidCommand};
pub use copy::{CopyDone, CopyIn, CopyOut, CopyReport};
pub use event::Event;
pub use features::Features;
pub use file::{FileContent, ReadFile, WriteFile, octal_mode};
pub use message::{Answer, Ended, ExecInfo, ExecState, Failure, FailureKind, Message, Ran, Role, Started, Welcome};
pub use refresh::{Refresh, Refreshed};
pub use request::{Call, Hello, Numbered, Request, ShutdownMode};
pub use stream::{Channel, Opened, Purpose, StreamAnswer, StreamHeader, Ticket};
pub use stream_list::{Label, StreamInfo, StreamKind, StreamList};
pub use terminal::{InvalidTerminal, OpenTerminal, OpenedTerminal, TerminalInfo, TerminalSize, ViewerHeader};
pub use text::Text;
pub use token::Token;

/// Revision of the protocol that these types are. Host and agent must have the same; a change that an older peer would
/// misunderstand makes it another. New optional fields, new calls and new events don't.
pub const REVISION: u32 = 1;

/// vsock port on which the agent takes control connections.
pub const CONTROL_PORT: u32 = 100;

/// vsock port on which the agent takes connections that carry one stdio channel each.
pub const STREAM_PORT: u32 = 101;

/// vsock port on which the agent takes connections that carry one copy of files each.
pub const BULK_PORT: u32 = 102;

/// vsock port on which the agent takes connections that carry one session of the Model Context Protocol each.
pub const TOOLS_PORT: u32 = 200;

/// vsock ports of terminals. As long as a terminal is open, the agent takes connections of its viewers on one of them.
pub const TERMINAL_PORTS: RangeInclusive<u32> = 300..=399;

/// How long the commands of a guest stand still after [`Call::Freeze`] if the host is not heard of again, by the guest's
/// monotonic clock, which stands still with its virtual CPUs.
pub const MAX_FREEZE: Duration = Duration::from_secs(30);

/// Largest payload of a frame on a control connection, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Largest payload of the two frames that open a stream, in bytes.
pub const MAX_STREAM_FRAME_BYTES: usize = 4 * 1024;

/// Largest message on a connection to [`TOOLS_PORT`], in bytes, with the end of its line.
pub const MAX_TOOLS_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes of a file that one [`Call::ReadFile`] or [`Call::WriteFile`] carries.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// Most bytes of standard output and standard error together that [`Call::Run`] answers with.
pub const MAX_RUN_OUTPUT_BYTES: usize = 256 * 1024;

/// Most commands in the answer to [`Call::ListExecs`] that a host takes. An agent has at most half as many.
pub const MAX_EXECS: usize = 1024;

/// Most bytes of a command's arguments, environment and folder together.
pub const MAX_COMMAND_BYTES: usize = 128 * 1024;
