//! An agent that is none, in the place of one.

use std::{
    fs, mem,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{SinkExt, StreamExt};
use nexus_model::ExitStatus;
use nexus_protocol::{
    Answer, Blob, Call, Failure, FailureKind, Features, Message, Numbered, REVISION, Ran, Refreshed, Request, Role,
    Text, Welcome, frame,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use tokio_util::{codec::Framed, task::AbortOnDropHandle};

/// Answers in the place of a plain process' agent, says of itself what it is told to, and remembers what it was asked.
pub struct StandIn {
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

/// What it is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// What it can beyond what every agent of the revision can.
    pub features: &'static [&'static str],
    /// It never answers a freeze or a refresh.
    pub silent: bool,
    /// It closes connections to every port but the control connections', at once.
    pub shut: bool,
}

impl StandIn {
    /// Listens where an agent does, from the next connection on.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn take_place(socket: &Path, manners: Manners) -> Self {
        fs::rename(socket, socket.with_extension("away")).expect("an agent's socket");
        let listener = UnixListener::bind(socket).expect("a socket");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sessions.spawn(serve(stream, manners, Arc::clone(&heard)));
            }
        });
        Self { asked, _task: AbortOnDropHandle::new(task) }
    }

    /// The words of the calls since it was asked this, but for heartbeats.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves a connection for as long as it is there; hybrid vsock as in docs/guest-protocol.md.
async fn serve(mut stream: UnixStream, manners: Manners, asked: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut connect = Vec::new();
    while !connect.ends_with(b"\n") {
        connect.push(stream.read_u8().await.ok()?);
    }
    stream.write_all(b"OK 1\n").await.ok()?;
    if manners.shut && connect != b"CONNECT 100\n" {
        return None;
    }
    let mut connection = Framed::new(stream, frame::codec());
    loop {
        let payload = connection.next().await?.ok()?;
        let Numbered { id } = frame::decode(&payload).ok()?;
        let call = frame::decode::<Request>(&payload).map(|request| request.call);
        let word = match &call {
            Ok(Call::Hello(_)) => "hello",
            Ok(Call::Run(_)) => "run",
            Ok(Call::Freeze) => "freeze",
            Ok(Call::Refresh(_)) => "refresh",
            _ => "",
        };
        if !word.is_empty() {
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(word.to_owned());
        }
        let has_clock = manners.features.contains(&Features::CLOCK);
        let answer = match call {
            Ok(Call::Hello(_)) => Answer::Welcome(Box::new(welcome(manners))),
            Ok(Call::Ping) => Answer::Pong,
            Ok(Call::Run(_)) => Answer::Ran(ran()),
            Ok(Call::Freeze | Call::Refresh(_)) if manners.silent => continue,
            Ok(Call::Freeze) if has_clock => Answer::Done,
            Ok(Call::Refresh(_)) if has_clock => Answer::Refreshed(Refreshed { stepped_us: 0 }),
            _ => {
                let failure = Failure::new(FailureKind::Unsupported, "the agent does not know this call");
                connection.send(frame::encode(&Message::Failure { id, failure }).ok()?).await.ok()?;
                continue;
            }
        };
        connection.send(frame::encode(&Message::Answer { id, answer }).ok()?).await.ok()?;
    }
}

fn ran() -> Ran {
    Ran {
        status: ExitStatus::Code(0),
        timed_out: false,
        stdout: Blob(b"stand-in\n".to_vec()),
        stderr: Blob::default(),
        truncated: false,
    }
}

fn welcome(manners: Manners) -> Welcome {
    Welcome {
        revision: REVISION,
        agent_version: Text::from("0.1.0"),
        run_id: Text::from("0000000000000001"),
        role: Role::Init,
        boot_id: Text::from("00000000-0000-0000-0000-000000000001"),
        hostname: Text::from("stand-in"),
        os_name: Text::default(),
        os_version: Text::default(),
        addresses: Vec::new(),
        metadata: [].into(),
        metadata_problem: None,
        uptime_us: 0,
        features: manners.features.iter().copied().collect::<Features>(),
        next_terminal: None,
    }
}
