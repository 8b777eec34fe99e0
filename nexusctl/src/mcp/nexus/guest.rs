//! `vm_exec`, `file_read`, `file_write` and `file_delete`: the tools of a VM's own agent. Each call has a session of its own,
//! which ends with it: whatever it has under way is killed then.
//!
//! It is spoken by hand: a message is read when the one before is passed on, so that a guest that floods slows down itself and
//! nobody else, which the SDK's client would not do.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    time::Duration,
};

use nexus_mcp::{JsonObject, Progress, Reply};
use nexus_protocol::{MAX_TOOLS_LINE_BYTES, mcp::BoundedLines};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::super::session;
use crate::{
    bus::{Bus, DEADLINE},
    failure::Failure,
    interrupt::Interrupts,
    output::{clean, sentence},
};

/// How long a guest may boot before it is called.
const BOOT: Duration = Duration::from_secs(120);

/// Most of what a guest says at a time while a call runs, in bytes.
const MAX_NEWS_BYTES: usize = 64 * 1024;

/// Most of what a guest says of a failure of its own, in bytes.
const MAX_COMPLAINT_BYTES: usize = 1024;

/// A tool of a VM's agent, in a VM.
pub(super) struct Remote<'a> {
    pub(super) bus: &'a Bus,
    /// The VM, for the caller.
    pub(super) vm: &'a str,
    /// The tool's name in the VM.
    pub(super) tool: &'static str,
    /// How long it may take, if that is known.
    pub(super) limit: Option<Duration>,
}

impl Remote<'_> {
    /// Calls it. `T` is what it answers.
    pub(super) async fn call<T: Serialize + DeserializeOwned>(
        &self,
        arguments: JsonObject,
        progress: Option<&Progress>,
    ) -> Result<Reply, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let stream = session(self.bus, self.vm, BOOT, &mut interrupts).await?;
        let mut session = Session::new(stream).map_err(|error| self.failed(error))?;
        let begun = timeout(DEADLINE, session.begin()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        begun.map_err(|error| self.failed(error))?;
        let calling = session.call::<T>(self.tool, arguments, progress);
        let answer = match self.limit {
            None => calling.await,
            Some(limit) => timeout(limit, calling).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match answer.map_err(|error| self.failed(error))? {
            Ok(done) => Ok(done.into()),
            Err(complaint) => {
                let end = complaint.message.floor_char_boundary(MAX_COMPLAINT_BYTES);
                let why = clean(complaint.message.get(..end).unwrap_or_default());
                Err(Failure::new(format!("the guest of VM {} refuses {}", self.vm, self.tool)).because(sentence(&why)))
            }
        }
    }

    fn failed(&self, error: io::Error) -> Failure {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "Its guest has ended the connection.".to_owned(),
            io::ErrorKind::TimedOut => "Its guest does not answer.".to_owned(),
            _ => sentence(&error.to_string()),
        };
        Failure::new(format!("cannot use {} in VM {}", self.tool, self.vm))
            .because(why)
            .hint("See how it is", "nexusctl vm list")
    }
}

/// A session with the agent's tools.
struct Session {
    reading: BufReader<BoundedLines<OwnedReadHalf>>,
    writing: OwnedWriteHalf,
}

/// A message of the guest's. What is of another shape is none.
#[derive(Deserialize)]
#[serde(bound = "R: DeserializeOwned")]
struct Message<R> {
    id: Option<u32>,
    method: Option<String>,
    #[serde(default)]
    params: News,
    result: Option<R>,
    error: Option<Complaint>,
}

/// How far a call has come.
#[derive(Default, Deserialize)]
struct News {
    progress: Option<f64>,
    message: Option<String>,
}

/// Why there is no result.
#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    message: String,
}

/// A tool's result.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: DeserializeOwned")]
struct Done<T> {
    #[serde(default)]
    content: Vec<Content>,
    structured_content: Option<T>,
    #[serde(default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    text: String,
}

impl<T: Serialize> From<Done<T>> for Reply {
    fn from(done: Done<T>) -> Self {
        Self {
            texts: done.content.into_iter().map(|content| content.text).collect(),
            structured: done.structured_content.and_then(|structured| serde_json::to_value(structured).ok()),
            is_error: done.is_error,
        }
    }
}

impl Session {
    fn new(stream: OwnedFd) -> io::Result<Self> {
        let stream = StdStream::from(stream);
        stream.set_nonblocking(true)?;
        let (reading, writing) = UnixStream::from_std(stream)?.into_split();
        Ok(Self { reading: BufReader::new(BoundedLines::new(reading, MAX_TOOLS_LINE_BYTES)), writing })
    }

    async fn begin(&mut self) -> io::Result<()> {
        let hello = json!({
            // The newest revision that begins so.
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "nexusctl", "version": env!("CARGO_PKG_VERSION")},
        });
        let answer = self.ask::<IgnoredAny>(0, "initialize", hello, None).await?;
        answer.map_err(|complaint| io::Error::other(clean(&complaint.message)))?;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        tool: &str,
        arguments: JsonObject,
        progress: Option<&Progress>,
    ) -> io::Result<Result<Done<T>, Complaint>> {
        let mut params = json!({"name": tool, "arguments": arguments});
        if progress.is_some() {
            params["_meta"] = json!({"progressToken": 1});
        }
        let answer = self.ask::<Done<T>>(1, "tools/call", params, progress).await?;
        match answer {
            // A result without what the tool's schema promises is none.
            Ok(Done { structured_content: None, is_error: false, .. }) => Err(nonsense()),
            other => Ok(other),
        }
    }

    async fn ask<R: DeserializeOwned>(
        &mut self,
        id: u32,
        method: &str,
        params: Value,
        progress: Option<&Progress>,
    ) -> io::Result<Result<R, Complaint>> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            self.reading.read_until(b'\n', &mut line).await?;
            if !line.ends_with(b"\n") {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = str::from_utf8(&line).map_err(|_| nonsense())?;
            match serde_json::from_str(text).map_err(|_| nonsense())? {
                Message { id: Some(answered), method: None, result: Some(result), .. } if answered == id => {
                    return Ok(Ok(result));
                }
                Message { id: Some(answered), method: None, error: Some(complaint), .. } if answered == id => {
                    return Ok(Err(complaint));
                }
                Message { method: Some(method), params: News { progress: Some(done), message }, .. }
                    if method == "notifications/progress" =>
                {
                    if let Some(progress) = progress {
                        let mut message = message.unwrap_or_default();
                        message.truncate(message.floor_char_boundary(MAX_NEWS_BYTES));
                        // Of a client that is gone its stream tells.
                        let _ = progress.tell(done, message).await;
                    }
                }
                // It has nothing else to say that anybody here wants to know.
                _ => {}
            }
        }
    }

    async fn send(&mut self, message: &Value) -> io::Result<()> {
        self.writing.write_all(format!("{message}\n").as_bytes()).await
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its guest has sent what is no answer")
}
