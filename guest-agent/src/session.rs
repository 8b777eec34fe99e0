//! Control connections.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    future::Future,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use nexus_protocol::{
    Answer, Call, Event, Failure, FailureKind, Hello, Message, Numbered, REVISION, Request, Role, STREAM_PORT,
    ShutdownMode, StreamKind, frame,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet, spawn_local},
    time::timeout,
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::{
    agent::{Agent, Demand},
    clock, exec, facts, files,
    listener::OPENING_DEADLINE,
    log::say,
    power,
    stream::Stream,
};

/// As many control connections at a time: there is one host, which may be late to notice that one is gone.
const MAX_SESSIONS: usize = 16;

/// As many requests of a connection may wait for their answer.
const MAX_REQUESTS: usize = 1024;

/// Messages that wait to be written.
const QUEUE: usize = 64;

/// How long the host has to take note of an event.
const EVENT_DEADLINE: Duration = Duration::from_secs(1);

type Connection = Framed<Stream, LengthDelimitedCodec>;

/// The control connections that have shaken hands.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    next: Cell<u64>,
    queues: RefCell<BTreeMap<u64, mpsc::Sender<Outgoing>>>,
}

/// A message on its way to the host.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    /// Told once it was written.
    written: Option<oneshot::Sender<()>>,
}

impl Sessions {
    /// Tells every host that listens, and waits until it was written, but not for long.
    pub(crate) async fn announce(&self, event: Event) {
        let queues: Vec<_> = self.queues.borrow().values().cloned().collect();
        let tell = |queue: mpsc::Sender<Outgoing>| async move {
            let (written, seen) = oneshot::channel();
            let outgoing = Outgoing { message: Message::Event(event), written: Some(written) };
            if queue.send(outgoing).await.is_ok() {
                // Fails when the connection does.
                let _ = seen.await;
            }
        };
        // A host that does not read must not keep the guest from going down.
        let _ = timeout(EVENT_DEADLINE, futures_util::future::join_all(queues.into_iter().map(tell))).await;
    }
}

/// Serves a control connection to its end.
pub(crate) async fn serve(stream: Stream, agent: Rc<Agent>) {
    let mut connection = Framed::new(stream, frame::codec());
    let Ok(Some(())) = timeout(OPENING_DEADLINE, shake_hands(&mut connection, &agent)).await else { return };

    let (sink, mut frames) = connection.split();
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let number = agent.sessions.next.get();
    agent.sessions.next.set(number + 1);
    agent.sessions.queues.borrow_mut().insert(number, queue.clone());
    let _registered = Registered { agent: Rc::clone(&agent), number };

    let mut writer = spawn_local(write(sink, outgoing));
    let mut session = Session { agent, queue, tasks: JoinSet::new(), running: Rc::default() };
    loop {
        tokio::select! {
            frame = frames.next() => match frame {
                Some(Ok(payload)) => {
                    if session.take(&payload).await.is_none() {
                        break;
                    }
                }
                Some(Err(error)) => {
                    say!("the host's connection failed: {error}");
                    break;
                }
                None => break,
            },
            _ = &mut writer => break,
        }
    }
    writer.abort();
}

struct Registered {
    agent: Rc<Agent>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.agent.sessions.queues.borrow_mut().remove(&self.number);
    }
}

/// Whether the host may go on.
async fn shake_hands(connection: &mut Connection, agent: &Agent) -> Option<()> {
    let payload = connection.next().await?.ok()?;
    let request: Option<Request> = frame::decode(&payload).ok();
    let (id, admitted) = match request {
        Some(Request { id, call: Call::Hello(hello) }) => (id, admit(&hello, agent)),
        Some(Request { id, .. }) => (id, Err(Failure::new(FailureKind::Unauthorized, "say hello first"))),
        None => {
            let Numbered { id } = frame::decode(&payload).ok()?;
            (id, Err(Failure::new(FailureKind::Unauthorized, "say hello first")))
        }
    };
    let is_admitted = admitted.is_ok();
    let message = match admitted {
        Ok(()) => Message::Answer { id, answer: Answer::Welcome(Box::new(facts::welcome(agent))) },
        Err(failure) => Message::Failure { id, failure },
    };
    connection.send(frame::encode(&message).ok()?).await.ok()?;
    is_admitted.then_some(())
}

fn admit(hello: &Hello, agent: &Agent) -> Result<(), Failure> {
    if hello.revision != REVISION {
        let message = format!("the agent speaks revision {REVISION} of the protocol, not {}", hello.revision);
        return Err(Failure::new(FailureKind::Unsupported, message));
    }
    if agent.options.token.is_some() && hello.token != agent.options.token {
        return Err(Failure::new(FailureKind::Unauthorized, "the token is not the one of this boot"));
    }
    if agent.sessions.queues.borrow().len() >= MAX_SESSIONS {
        return Err(Failure::new(FailureKind::Exhausted, format!("{MAX_SESSIONS} hosts are connected already")));
    }
    Ok(())
}

async fn write(mut sink: SplitSink<Connection, bytes::Bytes>, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { message, written }) = outgoing.recv().await {
        let payload = match frame::encode(&message) {
            Ok(payload) => payload,
            Err(error) => {
                say!("an answer can't be sent: {error}");
                return;
            }
        };
        if sink.send(payload).await.is_err() {
            return;
        }
        if let Some(written) = written {
            // Whoever waited may have given up.
            let _ = written.send(());
        }
    }
}

struct Session {
    agent: Rc<Agent>,
    queue: mpsc::Sender<Outgoing>,
    /// Ended with the connection.
    tasks: JoinSet<()>,
    /// Requests under way, by their numbers.
    running: Rc<RefCell<HashMap<u64, AbortHandle>>>,
}

impl Session {
    /// Does, or begins to do, what a frame asks for; `None` ends the connection.
    async fn take(&mut self, payload: &BytesMut) -> Option<()> {
        while self.tasks.try_join_next().is_some() {}
        let Ok(Request { id, call }) = frame::decode(payload) else {
            let Numbered { id } = frame::decode(payload).ok()?;
            return self
                .reply(id, Err(Failure::new(FailureKind::Unsupported, "the agent does not know this call")))
                .await;
        };
        if self.running.borrow().contains_key(&id) {
            return self
                .reply(id, Err(Failure::new(FailureKind::Invalid, "a request of that number is under way")))
                .await;
        }
        let agent = Rc::clone(&self.agent);
        if let Some(word) = call.feature().filter(|word| !agent.features.has(word)) {
            let message = format!("this agent has no `{word}`: see its features");
            return self.reply(id, Err(Failure::new(FailureKind::Unsupported, message))).await;
        }
        let result = match call {
            Call::Hello(_) => Err(Failure::new(FailureKind::Invalid, "there was a hello before")),
            Call::Ping => Ok(Answer::Pong),
            Call::Run(_) | Call::Exec(_) | Call::Detach(_) | Call::OpenTerminal(_) | Call::OpenStream { .. }
                if agent.ending().is_some() =>
            {
                Err(Failure::new(FailureKind::ShuttingDown, "the guest is going down"))
            }
            Call::Run(command) => {
                return self.begin(id, async move { exec::run(&agent.spawner, &command).await.map(Answer::Ran) }).await;
            }
            Call::Exec(exec) => {
                let work = async move {
                    agent.spawner.freezer().thawed().await;
                    let stream = agent.streams.announce(StreamKind::Stdio, STREAM_PORT, exec.label);
                    agent.execs.start(&agent.spawner, &exec.command, stream).map(Answer::Started)
                };
                return self.begin(id, work).await;
            }
            Call::Detach(command) => {
                let work = async move {
                    agent.spawner.freezer().thawed().await;
                    agent.execs.detach(&agent.spawner, &command).map(|exec| Answer::Detached { exec })
                };
                return self.begin(id, work).await;
            }
            Call::OpenTerminal(open) => {
                let work = async move {
                    agent.spawner.freezer().thawed().await;
                    agent.terminals.open(&agent, open).map(Answer::Terminal)
                };
                return self.begin(id, work).await;
            }
            Call::WaitExec { exec } => {
                return self.begin(id, async move { agent.execs.wait(exec).await.map(Answer::Ended) }).await;
            }
            Call::SignalExec { exec, signal } => agent.execs.signal(exec, signal).map(|()| Answer::Done),
            Call::ListExecs => {
                let mut execs = agent.execs.list();
                agent.terminals.describe(&mut execs);
                Ok(Answer::Execs(execs))
            }
            Call::ResizeExec { exec, size } => agent.terminals.resize(exec, size).map(|()| Answer::Done),
            Call::OpenStream { purpose, label } => {
                agent.tickets.issue(&agent.streams, purpose, label, Instant::now()).map(Answer::Opened)
            }
            Call::ListStreams => Ok(Answer::Streams(agent.streams.list())),
            Call::WaitStream { stream } => {
                let work = async move {
                    agent.streams.wait(stream).await;
                    Ok(Answer::Done)
                };
                return self.begin(id, work).await;
            }
            Call::CloseStream { stream } => agent.streams.close(stream).map(|()| Answer::Done),
            Call::Freeze => {
                let work = async move { agent.spawner.freezer().freeze().await.map(|()| Answer::Done) };
                return self.begin(id, work).await;
            }
            Call::Refresh(refresh) => {
                let refreshed = clock::refresh(&refresh);
                agent.spawner.freezer().thaw();
                refreshed.map(Answer::Refreshed)
            }
            Call::ReadFile(read) => return self.begin(id, files::answer_read(Arc::clone(&agent.root), read)).await,
            Call::WriteFile(write) => return self.begin(id, files::answer_write(Arc::clone(&agent.root), write)).await,
            Call::DeleteFile { path, recursive } => {
                return self.begin(id, files::answer_delete(Arc::clone(&agent.root), path, recursive)).await;
            }
            Call::Shutdown { mode } => return self.shut_down(id, mode).await,
            Call::Cancel { request } => {
                let cancelled = self.running.borrow_mut().remove(&request);
                if let Some(task) = cancelled {
                    task.abort();
                    self.reply(request, Err(Failure::new(FailureKind::Cancelled, "it was cancelled"))).await?;
                }
                Ok(Answer::Done)
            }
        };
        self.reply(id, result).await
    }

    async fn reply(&self, id: u64, result: Result<Answer, Failure>) -> Option<()> {
        self.queue.send(outgoing(id, result)).await.ok()
    }

    async fn begin(&mut self, id: u64, work: impl Future<Output = Result<Answer, Failure>> + 'static) -> Option<()> {
        if self.running.borrow().len() >= MAX_REQUESTS {
            let message = format!("{MAX_REQUESTS} requests are under way already");
            return self.reply(id, Err(Failure::new(FailureKind::Exhausted, message))).await;
        }
        let queue = self.queue.clone();
        let running = Rc::clone(&self.running);
        let task = self.tasks.spawn_local(async move {
            let result = work.await;
            // Whoever takes the number away answers: this, or the request that cancels it.
            if running.borrow_mut().remove(&id).is_some() {
                // Fails when the connection does.
                let _ = queue.send(outgoing(id, result)).await;
            }
        });
        self.running.borrow_mut().insert(id, task);
        Some(())
    }

    async fn shut_down(&mut self, id: u64, mode: ShutdownMode) -> Option<()> {
        if self.agent.role == Role::Service {
            let agent = Rc::clone(&self.agent);
            return self
                .begin(id, async move {
                    power::ask_init(&agent.spawner, mode).await?;
                    agent.demand(Demand::Shutdown(mode));
                    Ok(Answer::Done)
                })
                .await;
        }
        // The answer is ahead of the event in the queue.
        self.reply(id, Ok(Answer::Done)).await?;
        self.agent.demand(Demand::Shutdown(mode));
        Some(())
    }
}

fn outgoing(id: u64, result: Result<Answer, Failure>) -> Outgoing {
    let message = match result {
        Ok(answer) => Message::Answer { id, answer },
        Err(failure) => Message::Failure { id, failure },
    };
    Outgoing { message, written: None }
}
