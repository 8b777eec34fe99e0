//! A guest agent that lies, made from what `docs/guest-protocol.md` says alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// The longest frame that it reads.
const MAX_FRAME_BYTES: u32 = 1 << 20;

/// Sets a window's title, makes a line of its own, and turns the direction of writing.
const TEXT: &str = "\u{1b}]0;x\u{7}\nowned \u{202e}\u{9b}2J\r\u{2028}\u{8}owned";

/// What somebody lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The proxy's answer has no end.
    EndlessProxy,
    /// The proxy takes a connection and says nothing.
    SilentProxy,
    /// The connection is closed after so many bytes of an honest beginning.
    Closes {
        /// So many.
        after: usize,
    },
    /// The handshake is a frame of four gigabytes.
    GiantWelcome,
    /// Events come instead of the handshake.
    EndlessHandshake,
    /// The agent speaks a protocol that does not exist yet.
    Future,
    /// The handshake is JSON with a word in it that would steer a terminal, and is long.
    Escapes,
    /// A frame is announced that can't be sent.
    GiantFrame,
    /// A frame is nothing but brackets.
    DeepFrame,
    /// A frame comes byte by byte, for hours.
    Drip,
    /// Frames begin and the connection ends.
    HalfFrame,
    /// Each answer is one to another question.
    WrongId,
    /// Each answer is one of another kind.
    WrongAnswer,
    /// As many events as the socket takes.
    FloodOfEvents,
    /// As many answers as the socket takes.
    FloodOfAnswers,
    /// Nothing is read after the handshake.
    Deaf,
    /// Every text holds what would steer a terminal, and nothing else is wrong.
    Texts,
    /// What a command wrote and what runs is more than there can be, or elsewhere than it can be.
    Sizes,
    /// The streams of a command begin with gigabytes.
    Streams,
    /// A command is started, perhaps, and the connection ends without an answer.
    Starts,
    /// As many streams are open as can be, for clients who know nothing of them or are not there, and none of them ends.
    Connections,
    /// What is to wait until somebody wants it babbles.
    Spares,
}

impl Lie {
    /// Every one of them.
    pub const ALL: [Self; 22] = [
        Self::EndlessProxy,
        Self::SilentProxy,
        Self::Closes { after: 100 },
        Self::GiantWelcome,
        Self::EndlessHandshake,
        Self::Future,
        Self::Escapes,
        Self::GiantFrame,
        Self::DeepFrame,
        Self::Drip,
        Self::HalfFrame,
        Self::WrongId,
        Self::WrongAnswer,
        Self::FloodOfEvents,
        Self::FloodOfAnswers,
        Self::Deaf,
        Self::Texts,
        Self::Sizes,
        Self::Streams,
        Self::Starts,
        Self::Connections,
        Self::Spares,
    ];
}

/// A liar in the place of an honest guest, which has its place back when this is dropped.
#[derive(Debug)]
pub struct Liar {
    socket: PathBuf,
    away: PathBuf,
    starts: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Liar {
    /// Takes the place of whoever listens on a guest's vsock socket. Connections that are there stay honest.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn in_place_of(socket: &Path, lie: Lie) -> Self {
        let away = socket.with_extension("honest");
        fs::rename(socket, &away).expect("the socket is there");
        let listener = UnixListener::bind(socket).expect("its place is free");
        let starts = Arc::new(AtomicU64::new(0));
        let started = Arc::clone(&starts);
        let task = tokio::spawn(async move {
            let mut speakers = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                // That nobody listens any more is what a lie comes to.
                let started = Arc::clone(&started);
                speakers.spawn(async move { drop(speak(connection, lie, &started).await) });
                while speakers.try_join_next().is_some() {}
            }
        });
        Self { socket: socket.to_owned(), away, starts, _task: AbortOnDropHandle::new(task) }
    }

    /// How often it was asked to start a command.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = fs::rename(&self.away, &self.socket);
    }
}

async fn speak(mut host: UnixStream, lie: Lie, starts: &AtomicU64) -> io::Result<()> {
    let request = line(&mut host).await?;
    match lie {
        Lie::EndlessProxy => return babble(&mut host, b"OK OK OK OK ").await,
        Lie::SilentProxy => return listen(&mut host).await,
        _ => host.write_all(b"OK 1024\n").await?,
    }
    if request == "CONNECT 100" { control(&mut host, lie, starts).await } else { stream(&mut host, lie).await }
}

async fn control(host: &mut UnixStream, lie: Lie, starts: &AtomicU64) -> io::Result<()> {
    let hello = read(host).await?;
    let answer = |body: Value| json!({"answer": {"id": hello["id"], "answer": body}});
    let ending = json!({"event": {"tide": "high"}}).to_string();
    let mut welcome = match lie {
        Lie::Future => welcome(2, "liar"),
        // The parser's own words quote it.
        Lie::Escapes => json!({(format!("\u{1b}]0;owned\u{7}\n\u{202e}{}", "x".repeat(500_000))): {}}),
        Lie::Texts => welcome(1, TEXT),
        _ => welcome(1, "liar"),
    };
    match lie {
        Lie::Connections => welcome["welcome"]["features"] = json!(["streams"]),
        Lie::Spares => {
            welcome["welcome"]["features"] = json!(["copy", "spares", "terminals", "tools"]);
            welcome["welcome"]["next_terminal"] = json!(399);
        }
        _ => {}
    }
    match lie {
        Lie::GiantWelcome => return babble(host, &[0xff; 4096]).await,
        Lie::EndlessHandshake => return babble(host, &frame(&ending)).await,
        Lie::Closes { after } => {
            let bytes = frame(&answer(welcome).to_string());
            return host.write_all(bytes.get(..after).unwrap_or(&bytes)).await;
        }
        _ => host.write_all(&frame(&answer(welcome).to_string())).await?,
    }
    match lie {
        Lie::GiantFrame => babble(host, &[0x7f; 4096]).await,
        Lie::DeepFrame => host.write_all(&frame(&(r#"{"event":{"tide":"#.to_owned() + &"[".repeat(1 << 19)))).await,
        Lie::Drip => {
            host.write_all(&(MAX_FRAME_BYTES - 1).to_be_bytes()).await?;
            loop {
                host.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Lie::HalfFrame => host.write_all(&frame(&ending)[..ending.len() / 2]).await,
        Lie::FloodOfEvents => babble(host, &frame(&ending)).await,
        Lie::FloodOfAnswers => babble(host, &frame(&answer(json!("pong")).to_string())).await,
        Lie::Deaf => std::future::pending().await,
        _ => loop {
            let request = read(host).await?;
            if lie == Lie::Connections && !request["call"]["wait-stream"].is_null() {
                continue;
            }
            if ["exec", "detach"].iter().any(|call| !request["call"][call].is_null()) {
                starts.fetch_add(1, Ordering::Relaxed);
                if lie == Lie::Starts {
                    return Ok(());
                }
            }
            let reply = reply(lie, &request).to_string();
            host.write_all(&frame(&reply)).await?;
        },
    }
}

/// What is said to a request after the handshake.
fn reply(lie: Lie, request: &Value) -> Value {
    let id = &request["id"];
    let call = request["call"].as_object().and_then(|call| call.keys().next().cloned());
    let call = call.unwrap_or_else(|| request["call"].as_str().unwrap_or_default().to_owned());
    let answer = |answer: Value| json!({"answer": {"id": id, "answer": answer}});
    match (lie, call.as_str()) {
        (Lie::WrongId, _) => json!({"answer": {"id": u64::MAX - 1, "answer": "done"}}),
        (Lie::WrongAnswer, _) => answer(json!({"detached": {"exec": 1}})),
        (Lie::Texts, "list-execs") => {
            let terminal = json!({"name": TEXT, "size": {"columns": 80, "rows": 24}, "viewers": 0});
            answer(json!({"execs": [{"exec": 1, "state": "running", "argv": [TEXT, TEXT], "terminal": terminal}]}))
        }
        (_, "ping") => answer(json!("pong")),
        (Lie::Sizes, "run") => {
            let ran = json!({"status": {"code": i32::MAX}, "timed_out": false, "stdout": "QUFB".repeat(100_000),
                "stderr": "QUFB".repeat(100_000), "truncated": false});
            answer(json!({"ran": ran}))
        }
        (Lie::Sizes, "list-execs") => {
            let exec = json!({"exec": 1, "state": "running", "argv": [""]});
            answer(json!({"execs": vec![exec; 20_000]}))
        }
        (Lie::Connections, "list-streams") => {
            let owner = |number: u32| if number.is_multiple_of(2) { ":1.1" } else { ":1.4711" };
            let stream = |number| {
                json!({"stream": number, "kind": "tools", "port": 200, "label": owner(number), "age_us": u64::MAX,
                    "from_host": u64::MAX, "to_host": u64::MAX})
            };
            answer(json!({"streams": (0..5000).map(stream).collect::<Vec<_>>()}))
        }
        (Lie::Sizes, "open-terminal") => {
            answer(json!({"terminal": {"exec": 1, "port": 22, "token": "t", "created": true}}))
        }
        (Lie::Sizes, "open-stream") => answer(json!({"opened": {"port": 22, "token": "t"}})),
        (Lie::Texts, _) => json!({"failure": {"id": id, "failure": {"kind": "invalid", "message": TEXT}}}),
        (_, "exec") => answer(json!({"started": {"exec": 1, "token": "t"}})),
        _ => answer(json!("done")),
    }
}

async fn stream(host: &mut UnixStream, lie: Lie) -> io::Result<()> {
    if lie == Lie::Spares {
        return babble(host, &[0xff; 4096]).await;
    }
    read(host).await?;
    match lie {
        Lie::Streams => babble(host, &[0xff; 4096]).await,
        _ => host.write_all(&frame("\"open\"")).await,
    }
}

fn welcome(revision: u32, text: &str) -> Value {
    json!({"welcome": {"revision": revision, "agent_version": text, "run_id": text, "role": "process", "boot_id": text,
        "hostname": text, "os_name": text, "os_version": text, "addresses": [], "metadata": {text: text}, "uptime_us": 1,
        "features": [text, "terminals", "tools"]}})
}

/// Says the same for as long as somebody listens.
async fn babble(host: &mut UnixStream, words: &[u8]) -> io::Result<()> {
    loop {
        host.write_all(words).await?;
    }
}

/// Listens for as long as somebody is there.
async fn listen(host: &mut UnixStream) -> io::Result<()> {
    let mut heard = [0; 4096];
    while host.read(&mut heard).await? > 0 {}
    Ok(())
}

async fn line(host: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    loop {
        match host.read_u8().await? {
            b'\n' => return Ok(line),
            byte => line.push(char::from(byte)),
        }
    }
}

fn frame(payload: &str) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame has a length");
    [&length.to_be_bytes(), payload.as_bytes()].concat()
}

async fn read(host: &mut UnixStream) -> io::Result<Value> {
    let length = host.read_u32().await?;
    assert!(length <= MAX_FRAME_BYTES, "the host sends a frame of {length} bytes");
    let mut payload = vec![0; usize::try_from(length).expect("a frame fits into memory")];
    host.read_exact(&mut payload).await?;
    Ok(serde_json::from_slice(&payload)?)
}
