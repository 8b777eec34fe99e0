use std::path::PathBuf;

use nexus_host::{
    agent::{AgentClient, AgentError, AgentEvents},
    vsock::Endpoint,
};
use nexus_protocol::{
    CONTROL_PORT, Features, MAX_STREAM_FRAME_BYTES, Message, REVISION, Role, StreamAnswer, Text, Welcome, frame,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{Duration, timeout},
};

/// By a clock that only goes on when nobody has anything to do: whoever was to say something has not.
const QUIET: Duration = Duration::from_millis(1);

/// A shake of hands, as far as the host has a say in it.
pub type Connected = Result<(AgentClient, Welcome, AgentEvents), AgentError>;

/// A guest behind a socket that speaks hybrid vsock, on the same thread as its host.
#[derive(Debug)]
pub struct Guest {
    runtime: Runtime,
    listener: UnixListener,
    socket: PathBuf,
    _folder: TempDir,
}

impl Guest {
    /// A new one.
    ///
    /// # Panics
    /// When there is no folder for its socket.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("vsock.sock");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).expect("a socket")
        };
        Self { runtime, listener, socket, _folder: folder }
    }

    /// Has the host connect, and `visit` do something with that. Behind the control port there is who says `control`, a
    /// frame for each that it is sent; behind every other one, and before its proxy has answered, who says `stream`.
    pub fn play(&self, control: &[u8], stream: &[u8], visit: impl AsyncFnOnce(Connected)) {
        self.runtime.block_on(async {
            let mut speakers = JoinSet::new();
            let endpoint = Endpoint::Hybrid { socket: self.socket.clone() };
            let host = async {
                visit(AgentClient::connect(&endpoint, None, Duration::from_secs(5)).await).await;
            };
            tokio::pin!(host);
            loop {
                tokio::select! {
                    biased;
                    () = &mut host => break,
                    Ok((connection, _)) = self.listener.accept() => {
                        speakers.spawn(speak(connection, control.to_vec(), stream.to_vec()));
                    }
                }
            }
            // Each has heard that the host is gone: nothing of this round is left for the next one.
            while speakers.join_next().await.is_some() {}
        });
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

/// Who is behind one connection. What fails does because the host has hung up.
async fn speak(mut connection: UnixStream, control: Vec<u8>, stream: Vec<u8>) {
    let Some(port) = port(&mut connection).await else { return };
    if port == CONTROL_PORT {
        let _ = connection.write_all(b"OK 1\n").await;
        let mut rest = control.as_slice();
        let mut heard = [0; 4096];
        while !rest.is_empty() {
            if matches!(timeout(QUIET, connection.read(&mut heard)).await, Ok(Ok(0) | Err(_))) {
                return;
            }
            let (now, later) = rest.split_at(frame_length(rest));
            if connection.write_all(now).await.is_err() {
                return;
            }
            rest = later;
        }
        let _ = timeout(QUIET, connection.read(&mut heard)).await;
    } else if connection.write_all(&stream).await.is_err() {
        return;
    }
    let _ = connection.shutdown().await;
    let mut heard = [0; 4096];
    while matches!(connection.read(&mut heard).await, Ok(1..)) {}
}

/// The port for which the host asks.
async fn port(connection: &mut UnixStream) -> Option<u32> {
    let mut line = String::new();
    loop {
        match connection.read_u8().await.ok()? {
            b'\n' => return line.strip_prefix("CONNECT ")?.parse().ok(),
            byte => line.push(char::from(byte)),
        }
    }
}

/// How long the frame is with which this begins, as far as it is there.
fn frame_length(bytes: &[u8]) -> usize {
    let Some((length, payload)) = bytes.split_first_chunk() else { return bytes.len() };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    size_of::<u32>() + length.min(payload.len())
}

/// What an agent says about itself that has nothing to say.
#[must_use]
pub fn welcome() -> Welcome {
    Welcome {
        revision: REVISION,
        agent_version: Text::default(),
        run_id: Text::default(),
        role: Role::Init,
        boot_id: Text::default(),
        hostname: Text::default(),
        os_name: Text::default(),
        os_version: Text::default(),
        addresses: Vec::new(),
        metadata: Default::default(),
        metadata_problem: None,
        uptime_us: 0,
        features: Features::default(),
        next_terminal: None,
    }
}

/// These messages as the guest sends them.
///
/// # Panics
/// When one of them is too long.
#[must_use]
pub fn frames(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        let payload = frame::encode(message).expect("a message fits into a frame");
        bytes.extend_from_slice(&u32::try_from(payload.len()).expect("a frame is short").to_be_bytes());
        bytes.extend_from_slice(&payload);
    }
    bytes
}

/// What the proxy and the agent say when a stream is opened.
///
/// # Panics
/// Never.
#[must_use]
pub fn opened_stream() -> Vec<u8> {
    let mut bytes = b"OK 1\n".to_vec();
    let answer = serde_json::to_vec(&StreamAnswer::Open).expect("an answer is JSON");
    assert!(answer.len() <= MAX_STREAM_FRAME_BYTES);
    bytes.extend_from_slice(&u32::try_from(answer.len()).expect("a frame is short").to_be_bytes());
    bytes.extend_from_slice(&answer);
    bytes
}
