//! What the host says on a control connection.

use serde::{Deserialize, Serialize};

use crate::{Command, Exec, Features, Label, OpenTerminal, Purpose, ReadFile, Refresh, TerminalSize, Token, WriteFile};

/// One frame from the host: a call, and the number that its answer will carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Unique among this connection's requests. The host chooses.
    pub id: u64,
    /// What is asked for.
    pub call: Call,
}

/// The part of a [`Request`] that is understood even when its call is not, so that an older agent can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Numbered {
    /// The request's number.
    pub id: u64,
}

/// What the host may ask of the agent. Nothing but [`Call::Hello`] is answered before it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Opens the connection. Answer: [`Answer::Welcome`](crate::Answer::Welcome). A second one is refused.
    Hello(Hello),
    /// Are you there? Answer: [`Answer::Pong`](crate::Answer::Pong).
    Ping,
    /// Runs a command without input and answers with its output once it has ended:
    /// [`Answer::Ran`](crate::Answer::Ran). The end of the connection kills it.
    Run(Command),
    /// Starts a command whose stdio travels on three streams: [`Answer::Started`](crate::Answer::Started). It outlives
    /// the connection; but is killed, with everything that it started, when no stream was opened in time, or the host has
    /// closed all three while it runs.
    Exec(Exec),
    /// Starts a command without streams: its input is empty, and what it writes is dropped. Nothing but its own end,
    /// its time limit and a signal ends it. Answer: [`Answer::Detached`](crate::Answer::Detached).
    Detach(Command),
    /// Answers when a command of `exec`, `detach` or `open-terminal` has ended: [`Answer::Ended`](crate::Answer::Ended), also if that was before.
    WaitExec {
        /// Which command.
        exec: u64,
    },
    /// Sends a signal to the command's process group; signal 9 goes to everything that it started, wherever that is
    /// now, and also after the command itself has ended. Answer: [`Answer::Done`](crate::Answer::Done).
    SignalExec {
        /// Which command.
        exec: u64,
        /// Number of the signal, 1 to 64.
        signal: i32,
    },
    /// Commands of [`Call::Exec`], [`Call::Detach`] and [`Call::OpenTerminal`] that run or ended lately:
    /// [`Answer::Execs`](crate::Answer::Execs).
    ListExecs,
    /// Starts a command on a terminal, or finds the terminal of that name, and lets the host open one stream to it:
    /// [`Answer::Terminal`](crate::Answer::Terminal). Of agents with the feature [`TERMINALS`](crate::Features::TERMINALS). The
    /// command has a number like those of [`Call::Exec`].
    OpenTerminal(OpenTerminal),
    /// Gives the terminal on which that command runs another size: [`Answer::Done`](crate::Answer::Done).
    ResizeExec {
        /// Which command.
        exec: u64,
        /// How large it is from now on.
        size: TerminalSize,
    },
    /// Allows one connection that is no command's: [`Answer::Opened`](crate::Answer::Opened) says where and by which secret.
    OpenStream {
        /// What it is to carry.
        purpose: Purpose,
        /// Whose it is, as [`StreamInfo::label`](crate::StreamInfo::label) will say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<Label>,
    },
    /// The streams that are open of those that [`Call::Exec`], [`Call::OpenStream`] and [`Call::OpenTerminal`] allowed:
    /// [`Answer::Streams`](crate::Answer::Streams). This and the two that follow are for agents with the feature
    /// [`STREAMS`](crate::Features::STREAMS).
    ListStreams,
    /// Answers when that stream has ended, which one has that is not known: [`Answer::Done`](crate::Answer::Done).
    WaitStream {
        /// Which stream.
        stream: u64,
    },
    /// Has that stream end, whatever it carries: [`Answer::Done`](crate::Answer::Done) when it has begun to.
    CloseStream {
        /// Which stream.
        stream: u64,
    },
    /// Has all commands of the agent stand still, as good as it can, until the next [`Call::Refresh`] or for
    /// [`MAX_FREEZE`](crate::MAX_FREEZE): [`Answer::Done`](crate::Answer::Done) once they do. Of agents with the feature
    /// [`CLOCK`](crate::Features::CLOCK). A command that is to start meanwhile starts afterwards.
    Freeze,
    /// Puts the guest's clock right, brings new randomness, and lets commands go on that stand still:
    /// [`Answer::Refreshed`](crate::Answer::Refreshed). Of agents with the feature [`CLOCK`](crate::Features::CLOCK).
    Refresh(Refresh),
    /// Reads a file, or a part of it: [`Answer::File`](crate::Answer::File).
    ReadFile(ReadFile),
    /// Writes a file: [`Answer::Done`](crate::Answer::Done) when it is on the disk.
    WriteFile(WriteFile),
    /// Deletes a file or a link: [`Answer::Done`](crate::Answer::Done).
    DeleteFile {
        /// Its absolute path.
        path: String,
        /// A folder as well, with everything in it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recursive: bool,
    },
    /// Takes the guest down: [`Answer::Done`](crate::Answer::Done) when it has begun.
    Shutdown {
        /// What is to follow.
        mode: ShutdownMode,
    },
    /// Nobody waits for the answer to that request any more: a [`Call::Run`] is killed, a [`Call::WaitExec`] or a
    /// [`Call::WaitStream`] forgotten.
    /// Answer: [`Answer::Done`](crate::Answer::Done). The request itself is answered too if it was not before.
    Cancel {
        /// Which request of this connection.
        request: u64,
    },
}

impl Call {
    /// The word of the agents that take it, unless all do: see [`Features`].
    #[must_use]
    pub const fn feature(&self) -> Option<&'static str> {
        match self {
            Self::Hello(_)
            | Self::Ping
            | Self::Run(_)
            | Self::Exec(_)
            | Self::Detach(_)
            | Self::WaitExec { .. }
            | Self::SignalExec { .. }
            | Self::ListExecs
            | Self::Shutdown { .. }
            | Self::Cancel { .. } => None,
            Self::OpenTerminal(_) | Self::ResizeExec { .. } => Some(Features::TERMINALS),
            Self::OpenStream { purpose: Purpose::Tools { .. }, .. } => Some(Features::TOOLS),
            Self::OpenStream { purpose: Purpose::CopyIn(_) | Purpose::CopyOut(_), .. } => Some(Features::COPY),
            Self::ListStreams | Self::WaitStream { .. } | Self::CloseStream { .. } => Some(Features::STREAMS),
            Self::Freeze | Self::Refresh(_) => Some(Features::CLOCK),
            Self::ReadFile(_) | Self::WriteFile(_) | Self::DeleteFile { .. } => Some(Features::FILES),
        }
    }
}

/// How the host introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's [`REVISION`](crate::REVISION) that the host speaks.
    pub revision: u32,
    /// The secret of this boot, where the guest was started with one (`nexus.token=` on its kernel's command line).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What this host can beyond what every host of the revision can. An agent sends no event but
    /// [`Event::Ending`](crate::Event::Ending) to a host that did not name it here.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
}

/// What follows when a guest goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownMode {
    /// Nothing: it stays off.
    Poweroff,
    /// It comes up again.
    Reboot,
}
