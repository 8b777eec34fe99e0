//! QEMU's machine protocol, as far as a machine that is not changed while it runs needs it.
//!
//! Its own client rather than the `qapi` crates: their decoder buffers a line of any length, and who answers here may be
//! a VMM that its guest has taken over; and they generate code for the whole schema where four commands are used.
//! Source: `docs/interop/qmp-spec.txt` of QEMU.

use std::{io, path::Path, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::{net::UnixStream, time::timeout};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use crate::{vmm::VmmError, vsock::connect_unix};

/// The longest line that is read. The greeting, the longest that QEMU sends here, has about 130 bytes.
const MAX_LINE: usize = 64 * 1024;
/// The most events that may come before an answer.
const MAX_EVENTS: usize = 1000;
/// How long one command may take. QEMU serves one client at a time and answers between two rounds of its main loop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection in command mode.
pub(crate) struct Qmp {
    lines: Framed<UnixStream, LinesCodec>,
}

/// One line from QEMU: exactly one of these is there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Fault>,
    event: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    desc: String,
}

/// Answer of `query-status`.
#[derive(Debug, Deserialize)]
struct Status {
    /// `RunState` of QEMU's `qapi/run-state.json`.
    status: String,
}

/// Answer of `x-query-virtio-status`: `VirtioStatus` of QEMU's `qapi/virtio.json`.
#[derive(Debug, Deserialize)]
struct VirtioStatus {
    status: VirtioDeviceStatus,
}

#[derive(Debug, Deserialize)]
struct VirtioDeviceStatus {
    /// Flags, each followed by a colon and its meaning.
    statuses: Vec<String>,
}

/// The flag by which a driver says that it is ready, virtio 1.2, section 2.1.
const DRIVER_OK: &str = "VIRTIO_CONFIG_S_DRIVER_OK:";

impl Qmp {
    /// Connects and leaves negotiation mode.
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        let stream = connect_unix(socket).await?;
        let mut qmp = Self { lines: Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE)) };
        let negotiation = async {
            if qmp.line().await?.greeting.is_none() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no QMP greeting"));
            }
            Ok(())
        };
        timeout(ANSWER_TIMEOUT, negotiation).await??;
        qmp.execute("qmp_capabilities").await.map_err(io::Error::other)?;
        Ok(qmp)
    }

    /// Stops the virtual CPUs.
    pub(crate) async fn stop(&mut self) -> Result<(), VmmError> {
        self.execute("stop").await.map(drop)
    }

    /// Lets the virtual CPUs go on.
    pub(crate) async fn cont(&mut self) -> Result<(), VmmError> {
        self.execute("cont").await.map(drop)
    }

    /// The machine's `RunState`.
    pub(crate) async fn query_status(&mut self) -> Result<String, VmmError> {
        const COMMAND: &str = "query-status";
        let answer = self.execute(COMMAND).await?;
        serde_json::from_value(answer)
            .map(|Status { status }| status)
            .map_err(|error| VmmError::Api { request: COMMAND.to_owned(), source: error.into() })
    }

    /// Whether the guest's driver has taken over the virtio device with that id. A QEMU that can't tell, one before 7.2,
    /// is taken to say yes.
    pub(crate) async fn is_driver_ready(&mut self, device: &str) -> Result<bool, VmmError> {
        const COMMAND: &str = "x-query-virtio-status";
        let path = format!("/machine/peripheral/{device}");
        let answer = match self.execute_with(COMMAND, Some(json!({ "path": path }))).await {
            Err(VmmError::Rejected { .. }) => return Ok(true),
            answer => answer?,
        };
        serde_json::from_value(answer)
            .map(|VirtioStatus { status }| status.statuses.iter().any(|flag| flag.starts_with(DRIVER_OK)))
            .map_err(|error| VmmError::Api { request: COMMAND.to_owned(), source: error.into() })
    }

    async fn execute(&mut self, command: &'static str) -> Result<Value, VmmError> {
        self.execute_with(command, None).await
    }

    async fn execute_with(&mut self, command: &'static str, arguments: Option<Value>) -> Result<Value, VmmError> {
        let request = match arguments {
            Some(arguments) => json!({ "execute": command, "arguments": arguments }),
            None => json!({ "execute": command }),
        };
        let api = |source: io::Error| VmmError::Api { request: command.to_owned(), source: source.into() };
        let exchange = async {
            self.lines.send(request.to_string()).await.map_err(into_io).map_err(api)?;
            for _ in 0..MAX_EVENTS {
                let line = self.line().await.map_err(api)?;
                match line {
                    Line { answer: Some(answer), .. } => return Ok(answer),
                    Line { error: Some(fault), .. } => {
                        return Err(VmmError::Rejected { request: command.to_owned(), message: fault.desc });
                    }
                    Line { event: Some(_), .. } => {}
                    _ => return Err(api(io::Error::new(io::ErrorKind::InvalidData, "neither answer nor event"))),
                }
            }
            Err(api(io::Error::new(io::ErrorKind::InvalidData, "events without end")))
        };
        timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(VmmError::Timeout { request: command.to_owned(), waited: ANSWER_TIMEOUT }))
    }

    async fn line(&mut self) -> io::Result<Line> {
        let line = self.lines.next().await.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(into_io)?;
        Ok(serde_json::from_str(&line)?)
    }
}

fn into_io(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        LinesCodecError::MaxLineLengthExceeded => io::Error::new(io::ErrorKind::InvalidData, "a line without end"),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::{UnixListener, unix::OwnedWriteHalf},
        task::JoinHandle,
    };

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}"#;
    const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#;

    /// A VMM that greets, and has `answer` write what comes after each command.
    fn vmm(answer: impl Fn(&str) -> String + Send + 'static) -> (TempDir, std::path::PathBuf, JoinHandle<()>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(async move {
            let (read, mut write) = listener.accept().await.unwrap().0.into_split();
            let mut commands = BufReader::new(read).lines();
            say(&mut write, &format!("{GREETING}\r\n")).await;
            while let Ok(Some(command)) = commands.next_line().await {
                let line = match command.as_str() {
                    r#"{"execute":"qmp_capabilities"}"# => "{\"return\": {}}\r\n".to_owned(),
                    command => answer(command),
                };
                say(&mut write, &line).await;
            }
        });
        (dir, socket, task)
    }

    async fn say(stream: &mut OwnedWriteHalf, text: &str) {
        // The other side may have had enough.
        let _ = stream.write_all(text.as_bytes()).await;
    }

    #[tokio::test]
    async fn events_come_between_a_command_and_its_answer() {
        let (_dir, socket, _task) = vmm(|command| {
            assert_eq!(command, r#"{"execute":"query-status"}"#);
            format!("{EVENT}\r\n{EVENT}\r\n{}\r\n", r#"{"return": {"status": "paused", "running": false}}"#)
        });
        let mut qmp = Qmp::connect(&socket).await.unwrap();
        assert_eq!(qmp.query_status().await.unwrap(), "paused");
    }

    #[tokio::test]
    async fn a_driver_is_ready_when_qemu_says_so_or_cannot_tell() {
        let says = |flag: &str| format!("{{\"return\": {{\"status\": {{\"statuses\": [\"{flag}\"]}}}}}}\n");
        for (answer, ready) in [
            (says("VIRTIO_CONFIG_S_DRIVER: Guest OS compatible"), false),
            (says("VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready"), true),
            (r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}}"#.to_owned() + "\n", true),
        ] {
            let (_dir, socket, _task) = vmm(move |_| answer.clone());
            assert_eq!(Qmp::connect(&socket).await.unwrap().is_driver_ready("vsock").await.unwrap(), ready);
        }
    }

    #[tokio::test]
    async fn a_refusal_carries_the_vmm_s_own_words() {
        let (_dir, socket, _task) = vmm(|_| {
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Resetting the VM is required\"}}\r\n".into()
        });
        let error = Qmp::connect(&socket).await.unwrap().cont().await.unwrap_err();
        assert_eq!(error.to_string(), "the VMM refused cont: Resetting the VM is required");
    }

    #[tokio::test]
    async fn a_vmm_that_its_guest_has_taken_over_cannot_hold_the_daemon_up() {
        let hostile: [fn(&str) -> String; 5] = [
            |_| "x".repeat(MAX_LINE + 2),
            |_| format!("{EVENT}\n").repeat(MAX_EVENTS + 1),
            |_| "{}\n".to_owned(),
            |_| "no JSON\n".to_owned(),
            |_| format!("{}{}\n", "[".repeat(10_000), "]".repeat(10_000)),
        ];
        for answer in hostile {
            let (_dir, socket, _task) = vmm(answer);
            let error = Qmp::connect(&socket).await.unwrap().stop().await.unwrap_err();
            assert!(matches!(error, VmmError::Api { .. }), "{error:?}");
        }
    }
}
