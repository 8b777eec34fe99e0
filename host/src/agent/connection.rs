//! The control connection's two tasks: one that writes, and one that reads and knows which answer is whose.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, OnceLock, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use nexus_protocol::{Answer, Call, Message, Request, frame};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use super::{
    AgentError, AgentEvents, Disconnect, events::EventSink, reader::FrameReader, traffic::Meter, writer::FrameWriter,
};

/// As many calls may wait for their answer. Below what the agent takes from one connection.
pub(super) const MAX_PENDING: usize = 1000;

/// As many answers may be late, to questions whose callers have gone: those of all that may be pending, should all be
/// abandoned at once, and the answers to their cancellations.
const MAX_LATE: usize = 2 * MAX_PENDING;

/// Frames that wait to be written.
const WRITE_QUEUE: usize = 64;

/// How long a frame may take to leave.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Why a connection ended, once it has.
pub(super) type Ended = Arc<OnceLock<Arc<Disconnect>>>;

/// A call on its way to the agent.
pub(super) struct Outgoing {
    id: u64,
    call: Call,
    answer: oneshot::Sender<Result<Answer, AgentError>>,
}

/// The callers' end of a connection; the connection is closed when it is dropped.
#[derive(Debug)]
pub(super) struct Caller {
    outgoing: mpsc::Sender<Outgoing>,
    abandoned: mpsc::UnboundedSender<u64>,
    next_id: Arc<AtomicU64>,
    pub(super) meter: Arc<Meter>,
    pub(super) hang_up: Arc<Notify>,
    ended: Ended,
}

/// A call that nobody waits for any more is called off when this is dropped.
struct Waiting<'a> {
    caller: &'a Caller,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Fails when the connection is gone, which calls off everything.
        let _ = self.caller.abandoned.send(self.id);
    }
}

impl Caller {
    /// Sends `call` and waits for its answer, without a deadline.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, AgentError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { caller: self, id };
        self.outgoing.send(Outgoing { id, call, answer }).await.map_err(|_| self.gone())?;
        let result = answered.await.unwrap_or_else(|_| Err(self.gone()));
        std::mem::forget(waiting);
        result
    }

    fn gone(&self) -> AgentError {
        AgentError::Gone(self.ended.get().cloned().unwrap_or_else(|| Arc::new(Disconnect::Closed)))
    }
}

/// Starts the tasks of a connection whose handshake is done, with request numbers from 1.
pub(super) fn start<R, W>(frames: FrameReader<R>, sink: FrameWriter<W>, meter: Arc<Meter>) -> (Caller, AgentEvents)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (outgoing, calls) = mpsc::channel(WRITE_QUEUE);
    let (abandoned, gone_callers) = mpsc::unbounded_channel();
    let (to_write, writable) = mpsc::channel(WRITE_QUEUE);
    let ended = Ended::default();
    let (sink_of_events, events) = EventSink::new(Arc::clone(&ended));
    let next_id = Arc::new(AtomicU64::new(1));
    let begun = Arc::new(AtomicU64::new(0));

    let connection = Connection {
        pending: HashMap::new(),
        late: HashSet::new(),
        cancels: VecDeque::new(),
        queued: 0,
        begun: Arc::clone(&begun),
        next_id: Arc::clone(&next_id),
        events: sink_of_events,
        ended: Arc::clone(&ended),
    };
    let hang_up = Arc::new(Notify::new());
    let writer = tokio::spawn(write(sink, writable, begun));
    tokio::spawn(connection.run(frames, calls, gone_callers, to_write, writer, Arc::clone(&hang_up)));

    (Caller { outgoing, abandoned, next_id, meter, hang_up, ended }, events)
}

async fn write<W: AsyncWrite + Unpin>(
    mut sink: FrameWriter<W>,
    mut frames: mpsc::Receiver<Bytes>,
    begun: Arc<AtomicU64>,
) -> Disconnect {
    while let Some(frame) = frames.recv().await {
        // Counted ahead: of what is on its way nobody knows how far it got.
        begun.fetch_add(1, Ordering::Release);
        match timeout(WRITE_DEADLINE, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Disconnect::Io(error),
            Err(_) => return Disconnect::NotReading,
        }
    }
    Disconnect::Dropped
}

struct Pending {
    answer: oneshot::Sender<Result<Answer, AgentError>>,
    /// It makes a difference whether the agent has heard of it.
    has_effect: bool,
    /// Its place among all frames for the agent, from 1 on.
    frame: u64,
    /// The agent goes on working on it until it is told that nobody waits.
    cancellable: bool,
}

struct Connection {
    pending: HashMap<u64, Pending>,
    late: HashSet<u64>,
    cancels: VecDeque<u64>,
    /// As many frames were given to the writer.
    queued: u64,
    /// As many of them it has begun to write.
    begun: Arc<AtomicU64>,
    next_id: Arc<AtomicU64>,
    events: EventSink,
    ended: Ended,
}

impl Connection {
    async fn run<R: AsyncRead + Unpin>(
        mut self,
        mut frames: FrameReader<R>,
        mut calls: mpsc::Receiver<Outgoing>,
        mut abandoned: mpsc::UnboundedReceiver<u64>,
        to_write: mpsc::Sender<Bytes>,
        mut writer: tokio::task::JoinHandle<Disconnect>,
        hang_up: Arc<Notify>,
    ) {
        let disconnect = loop {
            let step = tokio::select! {
                frame = frames.next() => frame.and_then(|payload| self.received(&payload)),
                Some(id) = abandoned.recv() => self.abandon(id),
                () = hang_up.notified() => Err(Disconnect::Dropped),
                end = &mut writer => Err(end.unwrap_or(Disconnect::Closed)),
                next = next_to_write(&to_write, &self.cancels, &mut calls) => match next {
                    Some((permit, next)) => self.send(permit, next),
                    None => Err(Disconnect::Dropped),
                },
            };
            if let Err(disconnect) = step {
                break disconnect;
            }
        };
        // Whatever it has not begun by then is never sent.
        if !writer.is_finished() {
            writer.abort();
            let _ = writer.await;
        }
        let disconnect = Arc::new(disconnect);
        // Set once, here.
        let _ = self.ended.set(Arc::clone(&disconnect));
        for (_, pending) in self.pending.drain() {
            let may_be_done = pending.has_effect && pending.frame <= self.begun.load(Ordering::Acquire);
            let lost = if may_be_done { AgentError::Lost } else { AgentError::Gone };
            let _ = pending.answer.send(Err(lost(Arc::clone(&disconnect))));
        }
    }

    fn send(&mut self, permit: mpsc::Permit<'_, Bytes>, next: Next) -> Result<(), Disconnect> {
        match next {
            Next::Cancel => {
                let Some(request) = self.cancels.pop_front() else { return Ok(()) };
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                let request = Request { id, call: Call::Cancel { request } };
                permit.send(frame::encode(&request).map_err(Disconnect::Frame)?);
                self.queued += 1;
                self.expect_late(id)
            }
            Next::Call(Outgoing { id, call, answer }) => {
                if answer.is_closed() {
                    return Ok(());
                }
                // How many others wait says nothing of whether the guest is there.
                if self.pending.len() >= MAX_PENDING && !matches!(call, Call::Ping) {
                    let _ = answer.send(Err(AgentError::Busy { limit: MAX_PENDING }));
                    return Ok(());
                }
                // Whatever may wait in the agent, so that it does not begin when nobody waits for it any more.
                let cancellable = matches!(
                    call,
                    Call::Run(_)
                        | Call::Exec(_)
                        | Call::Detach(_)
                        | Call::OpenTerminal(_)
                        | Call::WaitExec { .. }
                        | Call::WaitStream { .. }
                );
                let has_effect = has_effect(&call);
                match frame::encode(&Request { id, call }) {
                    Ok(frame) => permit.send(frame),
                    // Nothing of it was sent: the connection is as it was.
                    Err(error) => {
                        let _ = answer.send(Err(AgentError::TooLarge(error)));
                        return Ok(());
                    }
                }
                self.queued += 1;
                self.pending.insert(id, Pending { answer, has_effect, frame: self.queued, cancellable });
                Ok(())
            }
        }
    }

    fn abandon(&mut self, id: u64) -> Result<(), Disconnect> {
        let Some(pending) = self.pending.remove(&id) else { return Ok(()) };
        if pending.cancellable {
            self.cancels.push_back(id);
        }
        self.expect_late(id)
    }

    fn expect_late(&mut self, id: u64) -> Result<(), Disconnect> {
        self.late.insert(id);
        if self.late.len() > MAX_LATE { Err(Disconnect::NotAnswering) } else { Ok(()) }
    }

    fn received(&mut self, payload: &[u8]) -> Result<(), Disconnect> {
        match frame::decode(payload).map_err(Disconnect::Frame)? {
            Message::Answer { id, answer } => self.answered(id, Ok(answer)),
            Message::Failure { id, failure } => self.answered(id, Err(AgentError::Failed(failure))),
            Message::Event(event) => self.events.put(event),
        }
    }

    fn answered(&mut self, id: u64, result: Result<Answer, AgentError>) -> Result<(), Disconnect> {
        if let Some(pending) = self.pending.remove(&id) {
            // The caller may have gone this very moment.
            let _ = pending.answer.send(result);
            Ok(())
        } else if self.late.remove(&id) {
            Ok(())
        } else {
            Err(Disconnect::Unasked { id })
        }
    }
}

/// Whether it is another thing to ask twice than once.
const fn has_effect(call: &Call) -> bool {
    match call {
        Call::Hello(_)
        | Call::Ping
        | Call::WaitExec { .. }
        | Call::ResizeExec { .. }
        | Call::ListExecs
        | Call::OpenStream { .. }
        | Call::ListStreams
        | Call::WaitStream { .. }
        | Call::Refresh(_)
        | Call::Freeze
        | Call::ReadFile(_)
        | Call::Cancel { .. } => false,
        Call::Run(_)
        | Call::Exec(_)
        | Call::Detach(_)
        | Call::OpenTerminal(_)
        | Call::SignalExec { .. }
        | Call::CloseStream { .. }
        | Call::WriteFile(_)
        | Call::DeleteFile { .. }
        | Call::Shutdown { .. } => true,
    }
}

enum Next {
    Cancel,
    Call(Outgoing),
}

/// Waits for room to write, then for something to write. Nothing is lost when it is dropped while it waits.
async fn next_to_write<'a>(
    to_write: &'a mpsc::Sender<Bytes>,
    cancels: &VecDeque<u64>,
    calls: &mut mpsc::Receiver<Outgoing>,
) -> Option<(mpsc::Permit<'a, Bytes>, Next)> {
    let Ok(permit) = to_write.reserve().await else {
        // The writer has ended, and its reason is about to be seen.
        return std::future::pending().await;
    };
    if !cancels.is_empty() {
        return Some((permit, Next::Cancel));
    }
    let call = calls.recv().await?;
    Some((permit, Next::Call(call)))
}
