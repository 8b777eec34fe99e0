//! Calls to the agent.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use nexus_model::ExitStatus;
use nexus_protocol::{
    Answer, CONTROL_PORT, Call, Command, CopyIn, CopyOut, Ended, Exec, ExecInfo, FailureKind, Features, FileContent,
    Hello, Label, MAX_EXECS, MAX_FILE_BYTES, MAX_RUN_OUTPUT_BYTES, Message, OpenTerminal, Purpose, REVISION, Ran,
    ReadFile, Request, STREAM_PORT, ShutdownMode, TerminalSize, Text, Ticket, Token, Welcome, WriteFile, frame,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    time::timeout,
};

use super::{
    AgentError, AgentEvents, Disconnect, ExecStreams, OpenedStream, TerminalStream,
    connection::{self, Caller},
    exec,
    reader::FrameReader,
    spare::{SpareKind, Spares},
    stream, terminal,
    traffic::Meter,
    writer::FrameWriter,
};
use crate::vsock::Endpoint;

/// How long the agent has for whatever needs no command to end. Generous: virtual CPUs may be emulated and many.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How much longer than the command's own time the answer to [`AgentClient::run`] may take.
const RUN_GRACE: Duration = Duration::from_secs(30);

/// A control connection to a guest agent. Clones share it; it is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub struct AgentClient {
    pub(super) caller: Arc<Caller>,
    pub(super) endpoint: Endpoint,
    pub(super) spares: Arc<Spares>,
    about: Arc<About>,
}

/// What an agent said about itself.
#[derive(Debug)]
struct About {
    version: Text,
    run_id: Text,
    features: Features,
}

impl About {
    fn of(welcome: &Welcome) -> Arc<Self> {
        Arc::new(Self {
            version: welcome.agent_version.clone(),
            run_id: welcome.run_id.clone(),
            features: welcome.features.clone(),
        })
    }
}

/// How a command of [`AgentClient::run`] ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// How it ended.
    pub status: ExitStatus,
    /// It was killed because [`Command::timeout_ms`] was over.
    pub timed_out: bool,
    /// The first bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The first bytes of its standard error.
    pub stderr: Vec<u8>,
    /// It wrote more than [`MAX_RUN_OUTPUT_BYTES`](nexus_protocol::MAX_RUN_OUTPUT_BYTES) altogether.
    pub truncated: bool,
}

impl AgentClient {
    /// Connects to the agent and shakes hands, with the secret of this boot where the guest was started with one.
    /// `deadline` is for all of it.
    ///
    /// # Errors
    /// [`AgentError::Unreachable`] while nobody listens; [`AgentError::Timeout`]; [`AgentError::Revision`];
    /// [`AgentError::Failed`] when the agent turns the host away; [`AgentError::Gone`] when it breaks off.
    pub async fn connect(
        endpoint: &Endpoint,
        token: Option<&str>,
        deadline: Duration,
    ) -> Result<(Self, Welcome, AgentEvents), AgentError> {
        within("shake hands", deadline, async {
            let stream = endpoint.connect(CONTROL_PORT).await.map_err(AgentError::Unreachable)?;
            let (caller, welcome, events) = shake_hands(stream, token).await?;
            let (about, spares) = (About::of(&welcome), Spares::new(welcome.next_terminal));
            Ok((Self { caller: Arc::new(caller), endpoint: endpoint.clone(), spares, about }, welcome, events))
        })
        .await
    }

    /// A client over a stream that is there already, with no way to open another one.
    #[cfg(test)]
    pub(super) async fn over<S>(stream: S, token: Option<&str>) -> Result<(Self, Welcome, AgentEvents), AgentError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (caller, welcome, events) = shake_hands(stream, token).await?;
        let nowhere = Endpoint::Hybrid { socket: std::path::PathBuf::new() };
        let (about, spares) = (About::of(&welcome), Spares::new(welcome.next_terminal));
        Ok((Self { caller: Arc::new(caller), endpoint: nowhere, spares, about }, welcome, events))
    }

    /// Whether the agent has that feature.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.about.features.has(feature)
    }

    /// Names the run of the agent, in its own words: numbers of commands and of streams are of one run.
    #[must_use]
    pub fn run_id(&self) -> &str {
        self.about.run_id.as_str()
    }

    /// Counts what this connection carries, from its first byte.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.caller.meter)
    }

    /// Closes the connection at once, whoever else has it and waits for an answer.
    pub fn hang_up(&self) {
        self.caller.hang_up.notify_one();
    }

    /// Asks whether the agent is there.
    ///
    /// # Errors
    /// [`AgentError::Timeout`] after 30 s; [`AgentError::Gone`].
    pub async fn ping(&self) -> Result<(), AgentError> {
        match self.call("answer a ping", Call::Ping).await? {
            Answer::Pong => Ok(()),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Runs `command` without input, waits for its end and returns the beginning of its output. Dropping the future
    /// kills the command and everything that it started, and so does the end of the connection.
    ///
    /// # Errors
    /// [`AgentError::InvalidCommand`]; [`AgentError::Failed`] when it can't be started; [`AgentError::Gone`] and
    /// [`AgentError::Lost`]; [`AgentError::Timeout`] when it has a time limit and no answer came well after that. A command
    /// that is killed because its time is over is no error.
    pub async fn run(&self, command: &Command) -> Result<RunOutcome, AgentError> {
        command.validate().map_err(AgentError::InvalidCommand)?;
        let call = self.caller.call(Call::Run(command.clone()));
        let answer = match command.timeout() {
            Some(limit) => within("run the command", limit.saturating_add(RUN_GRACE), call).await?,
            None => call.await?,
        };
        match answer {
            Answer::Ran(ran) => Ok(outcome(ran)),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Starts `command` and opens its stdio, which is `label`'s. The command outlives this connection. When its streams can't be
    /// opened it is killed.
    ///
    /// # Errors
    /// [`AgentError::InvalidCommand`]; [`AgentError::Failed`] when it can't be started; [`AgentError::Streamless`];
    /// [`AgentError::Timeout`]; [`AgentError::Gone`] and [`AgentError::Lost`].
    pub async fn exec(&self, command: &Command, label: Option<Label>) -> Result<ExecStreams, AgentError> {
        command.validate().map_err(AgentError::InvalidCommand)?;
        let exec = Exec { command: command.clone(), label };
        let started = match self.call("start the command", Call::Exec(exec)).await? {
            Answer::Started(started) => started,
            _ => return Err(AgentError::Nonsense),
        };
        let spares = self.spares.take(SpareKind::Stdio, STREAM_PORT).await;
        let opening = exec::open(&self.endpoint, spares, &started);
        let streams = within("open the command's streams", ANSWER_DEADLINE, opening).await;
        match streams {
            Ok(streams) => Ok(streams),
            Err(error) => Err(self.streamless(started.exec, error).await),
        }
    }

    /// Starts `command` without streams: nothing is read from it, and nobody has to stay for it. Its number.
    ///
    /// # Errors
    /// [`AgentError::InvalidCommand`]; [`AgentError::Failed`] when it can't be started; [`AgentError::Timeout`];
    /// [`AgentError::Gone`] and [`AgentError::Lost`].
    pub async fn detach(&self, command: &Command) -> Result<u64, AgentError> {
        command.validate().map_err(AgentError::InvalidCommand)?;
        match self.call("start the command", Call::Detach(command.clone())).await? {
            Answer::Detached { exec } => Ok(exec),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Starts a command on a terminal, or finds the terminal of that name, and opens a stream to it. A terminal that was
    /// made and whose stream can't be opened is ended.
    ///
    /// # Errors
    /// [`AgentError::InvalidTerminal`]; else as [`Self::exec`]. An agent without the feature
    /// [`TERMINALS`](nexus_protocol::Features::TERMINALS) answers with a failure of the kind `Unsupported`.
    pub async fn open_terminal(&self, open: OpenTerminal) -> Result<TerminalStream, AgentError> {
        open.validate().map_err(AgentError::InvalidTerminal)?;
        let opened = match self.call("open the terminal", Call::OpenTerminal(open)).await? {
            Answer::Terminal(opened) => opened,
            _ => return Err(AgentError::Nonsense),
        };
        let spare = self.spares.take(SpareKind::Terminal, opened.port).await.pop();
        // Only now, for what is kept for another port than this is given up.
        self.spares.next_terminal_is(opened.next_terminal, opened.stream);
        let opening = terminal::open(&self.endpoint, spare, &opened);
        let stream = within("open the terminal's stream", ANSWER_DEADLINE, opening).await;
        match stream {
            Err(error) if opened.created => Err(self.streamless(opened.exec, error).await),
            stream => stream,
        }
    }

    /// Kills a command of which nobody has a stream. The agent does it by itself, only later.
    async fn streamless(&self, exec: u64, error: AgentError) -> AgentError {
        let _ = self.signal_exec(exec, libc::SIGKILL).await;
        AgentError::Streamless(Box::new(error))
    }

    /// Gives the terminal on which a command runs another size. The processes on it are told.
    ///
    /// # Errors
    /// [`AgentError::Failed`] when the command is unknown or runs on no terminal; [`AgentError::Timeout`] after 30 s;
    /// [`AgentError::Gone`].
    pub async fn resize_exec(&self, exec: u64, size: TerminalSize) -> Result<(), AgentError> {
        self.done("resize the terminal", Call::ResizeExec { exec, size }).await
    }

    /// Waits for a command's end; returns at once when it has ended, be it before this connection was made.
    ///
    /// # Errors
    /// [`AgentError::TimeUp`] when it was killed for that; [`AgentError::Failed`] when the agent does not know the command (any
    /// more); [`AgentError::Gone`].
    pub async fn wait_exec(&self, exec: u64) -> Result<ExitStatus, AgentError> {
        match self.caller.call(Call::WaitExec { exec }).await? {
            Answer::Ended(Ended { timed_out: true, .. }) => Err(AgentError::TimeUp),
            Answer::Ended(ended) => Ok(plausible(ended.status)),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Sends signal number `signal` to a command's process group. Number 9 reaches everything that the command started,
    /// also after its own end.
    ///
    /// # Errors
    /// [`AgentError::Failed`] when the command is unknown, or has ended and the signal is another than 9;
    /// [`AgentError::Timeout`] after 30 s; [`AgentError::Gone`] and [`AgentError::Lost`].
    pub async fn signal_exec(&self, exec: u64, signal: i32) -> Result<(), AgentError> {
        self.done("send the signal", Call::SignalExec { exec, signal }).await
    }

    /// The commands of [`Self::exec`], [`Self::detach`] and [`Self::open_terminal`] that run or ended lately, oldest first;
    /// at most [`MAX_EXECS`].
    ///
    /// # Errors
    /// [`AgentError::Timeout`] after 30 s; [`AgentError::Gone`].
    pub async fn list_execs(&self) -> Result<Vec<ExecInfo>, AgentError> {
        match self.call("list its commands", Call::ListExecs).await? {
            Answer::Execs(mut execs) => {
                execs.truncate(MAX_EXECS);
                Ok(execs)
            }
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Opens a session of the Model Context Protocol, in which the agent is the server: one JSON-RPC message a line, at
    /// most [`MAX_TOOLS_LINE_BYTES`](nexus_protocol::MAX_TOOLS_LINE_BYTES) each, in blocking mode, to be handed to a
    /// client. It depends on nothing in this process. `env` holds variables for the commands of the session, `owner` says
    /// whose it is.
    ///
    /// # Errors
    /// [`AgentError::Failed`], as `unsupported` by an agent that is older than that; [`AgentError::Unreachable`] and
    /// [`AgentError::Stream`] when the stream can't be opened; [`AgentError::Timeout`]; [`AgentError::Gone`].
    pub async fn open_tools(
        &self,
        env: BTreeMap<String, String>,
        owner: Option<Label>,
    ) -> Result<OpenedStream, AgentError> {
        self.open_stream(Purpose::Tools { env }, SpareKind::Tools, owner).await
    }

    /// Opens a stream that carries files to the guest, as [`CopyReport`](nexus_protocol::CopyReport) tells: in blocking mode,
    /// to be handed to a client. It depends on nothing in this process.
    ///
    /// # Errors
    /// As [`Self::open_tools`].
    pub async fn copy_in(&self, copy: CopyIn, owner: Option<Label>) -> Result<OpenedStream, AgentError> {
        self.open_stream(Purpose::CopyIn(copy), SpareKind::Bulk, owner).await
    }

    /// Opens a stream that carries files from the guest, likewise.
    ///
    /// # Errors
    /// As [`Self::open_tools`].
    pub async fn copy_out(&self, copy: CopyOut, owner: Option<Label>) -> Result<OpenedStream, AgentError> {
        self.open_stream(Purpose::CopyOut(copy), SpareKind::Bulk, owner).await
    }

    async fn open_stream(
        &self,
        purpose: Purpose,
        kind: SpareKind,
        label: Option<Label>,
    ) -> Result<OpenedStream, AgentError> {
        let opened = match self.call("allow a stream", Call::OpenStream { purpose, label }).await? {
            Answer::Opened(opened) => opened,
            _ => return Err(AgentError::Nonsense),
        };
        let port = opened.port;
        if kind.port() != Some(port) {
            return Err(AgentError::Nonsense);
        }
        let ticket = Ticket { token: opened.token };
        let spare = self.spares.take(kind, port).await.pop();
        let opening = stream::open(&self.endpoint, port, spare, &ticket);
        let stream = within("open the stream", ANSWER_DEADLINE, opening).await?;
        Ok(OpenedStream { number: opened.stream, stream })
    }

    /// Reads a file of the guest's from `offset` on, at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// [`AgentError::Failed`], as `unsupported` by an agent that is older than that; [`AgentError::Timeout`] after 30 s;
    /// [`AgentError::Gone`].
    pub async fn read_file(&self, path: &str, offset: u64) -> Result<FileContent, AgentError> {
        match self.call("read the file", Call::ReadFile(ReadFile { path: path.to_owned(), offset })).await? {
            Answer::File(file) if file.data.0.len() <= MAX_FILE_BYTES => Ok(file),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Writes a file of the guest's.
    ///
    /// # Errors
    /// As [`Self::read_file`]; [`AgentError::Lost`].
    pub async fn write_file(&self, file: WriteFile) -> Result<(), AgentError> {
        self.done("write the file", Call::WriteFile(file)).await
    }

    /// Deletes a file of the guest's; a folder with everything in it only if `recursive` says so.
    ///
    /// # Errors
    /// As [`Self::write_file`].
    pub async fn delete_file(&self, path: &str, recursive: bool) -> Result<(), AgentError> {
        self.done("delete the file", Call::DeleteFile { path: path.to_owned(), recursive }).await
    }

    /// Tells the guest to go down. It has only begun to when this returns.
    ///
    /// # Errors
    /// [`AgentError::Failed`] when it can't or, as a mere process, does not; [`AgentError::Timeout`] after 30 s;
    /// [`AgentError::Gone`]; [`AgentError::Lost`], which may as well mean that it was quick.
    pub async fn shutdown(&self, mode: ShutdownMode) -> Result<(), AgentError> {
        self.done("begin to shut down", Call::Shutdown { mode }).await
    }

    pub(super) async fn done(&self, act: &'static str, call: Call) -> Result<(), AgentError> {
        match self.call(act, call).await? {
            Answer::Done => Ok(()),
            _ => Err(AgentError::Nonsense),
        }
    }

    pub(super) async fn call(&self, act: &'static str, call: Call) -> Result<Answer, AgentError> {
        self.call_within(act, ANSWER_DEADLINE, call).await
    }

    /// An agent that does not know the call is too old for it.
    pub(super) async fn call_within(
        &self,
        act: &'static str,
        deadline: Duration,
        call: Call,
    ) -> Result<Answer, AgentError> {
        match within(act, deadline, self.caller.call(call)).await {
            Err(AgentError::Failed(failure)) if failure.kind == FailureKind::Unsupported => Err(self.too_old(act)),
            result => result,
        }
    }

    /// Why the agent can't do what it has no feature for.
    pub(super) fn too_old(&self, act: &'static str) -> AgentError {
        AgentError::TooOld { version: self.about.version.clone(), act }
    }
}

async fn within<T>(
    act: &'static str,
    deadline: Duration,
    work: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    timeout(deadline, work).await.map_err(|_| AgentError::Timeout { act, deadline })?
}

async fn shake_hands<S>(stream: S, token: Option<&str>) -> Result<(Caller, Welcome, AgentEvents), AgentError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let gone = |disconnect| AgentError::Gone(Arc::new(disconnect));
    let (reading, writing) = split(stream);
    let meter = Arc::new(Meter::default());
    let mut frames = FrameReader::new(reading, Arc::clone(&meter));
    let mut sink = FrameWriter::new(writing, Arc::clone(&meter));
    let hello = Hello { revision: REVISION, token: token.map(Token::from), features: Features::default() };
    let hello = Request { id: 0, call: Call::Hello(hello) };
    let hello = frame::encode(&hello).map_err(Disconnect::Frame).map_err(gone)?;
    sink.send(hello).await.map_err(Disconnect::Io).map_err(gone)?;

    let payload = frames.next().await.map_err(gone)?;
    let mut welcome = match frame::decode(&payload).map_err(Disconnect::Frame).map_err(gone)? {
        Message::Answer { id: 0, answer: Answer::Welcome(welcome) } => *welcome,
        Message::Failure { id: 0, failure } => return Err(AgentError::Failed(failure)),
        _ => return Err(AgentError::Nonsense),
    };
    if welcome.revision != REVISION {
        return Err(AgentError::Revision { theirs: welcome.revision });
    }
    welcome.addresses.truncate(Welcome::MAX_ADDRESSES);
    if let Some(first_surplus) = welcome.metadata.keys().nth(Welcome::MAX_METADATA).cloned() {
        welcome.metadata.split_off(&first_surplus);
    }
    let (caller, events) = connection::start(frames, sink, meter);
    Ok((caller, welcome, events))
}

/// What a guest says of a command that was run, within what it may say.
fn outcome(ran: Ran) -> RunOutcome {
    let (mut stdout, mut stderr) = (ran.stdout.0, ran.stderr.0);
    let too_much = stdout.len() + stderr.len() > MAX_RUN_OUTPUT_BYTES;
    stdout.truncate(MAX_RUN_OUTPUT_BYTES);
    stderr.truncate(MAX_RUN_OUTPUT_BYTES - stdout.len());
    let truncated = ran.truncated || too_much;
    RunOutcome { status: plausible(ran.status), timed_out: ran.timed_out, stdout, stderr, truncated }
}

/// An exit status that a kernel could have given; the guest may say anything.
fn plausible(status: ExitStatus) -> ExitStatus {
    match status {
        ExitStatus::Code(0..=255) | ExitStatus::Signal(1..=64) => status,
        _ => ExitStatus::Unknown,
    }
}
