//! Who looks at a terminal.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nexus_protocol::{Failure, ViewerHeader};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::Notify,
    time::timeout,
};

use super::session::{Seat, Session};
use crate::{
    agent::Agent,
    opening::{self, Opening},
    stream::Stream,
    streams::{Metered, Open},
};

/// As much may wait for one viewer.
const MAX_QUEUED: usize = 64 * 1024;

/// What keeping a piece of output takes beside its bytes.
const OVERHEAD: usize = 64;

/// How long a terminal has to take what was typed. Then it is dropped, as a terminal drops what its program does not read.
const TYPING_DEADLINE: Duration = Duration::from_secs(10);

const CHUNK_BYTES: usize = 4096;

/// Output on its way to a viewer. One that is too slow misses some, and is shown the screen as it is then.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    queue: RefCell<VecDeque<Bytes>>,
    queued: Cell<usize>,
    missed: Cell<bool>,
    /// It has never been shown the screen behind that of the program which takes all of it.
    pub(super) sees_half: Cell<bool>,
    wake: Notify,
}

impl Viewer {
    /// Whether more may be put into its queue.
    pub(super) fn has_room(&self) -> bool {
        !self.missed.get() && self.queued.get() < MAX_QUEUED
    }

    /// Whether it is to be waited for: not if it has missed something anyway.
    pub(super) fn is_followed(&self) -> bool {
        !self.missed.get()
    }

    /// Gives it something to show, or none if that is too much.
    pub(super) fn push(&self, output: &Bytes) {
        if self.missed.get() || output.is_empty() {
            return;
        }
        if !self.has_room() {
            return self.miss();
        }
        self.queued.set(self.queued.get() + cost(output));
        self.queue.borrow_mut().push_back(output.clone());
        self.wake.notify_one();
    }

    /// From now on it misses what comes, until it has shown what is in its queue; then it is shown the screen.
    pub(super) fn miss(&self) {
        self.missed.set(true);
        self.wake.notify_one();
    }

    /// Has it look whether there is anything.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What it is to show next; none at the terminal's end.
    async fn next(&self, session: &Session) -> Option<Bytes> {
        loop {
            let next = self.queue.borrow_mut().pop_front();
            if let Some(output) = next {
                self.queued.set(self.queued.get() - cost(&output));
                session.has_room();
                return Some(output);
            }
            if self.missed.replace(false) {
                session.has_room();
                return Some(session.repaint(self));
            }
            if session.is_over() {
                return None;
            }
            self.wake.notified().await;
        }
    }
}

fn cost(output: &Bytes) -> usize {
    output.len() + OVERHEAD
}

/// Lets a stream on a terminal's port say who it is for, and carries it to its end.
pub(crate) async fn serve(stream: Stream, port: u32, agent: &Rc<Agent>) {
    // What was claimed is given back with the seat.
    let opening = opening::open(stream, agent, |header| admit(&header, port, agent)).await;
    let Opening::Open(stream, (seat, open)) = opening else { return };
    let (mut keys, mut display) = split(Metered::new(stream, Arc::clone(&open.meter)));
    let is_over = tokio::select! {
        () = typing(&mut keys, &seat.session, seat.read_only) => false,
        is_over = showing(&mut display, &seat.session, &seat.viewer) => is_over,
        () = open.closing.cancelled() => false,
    };
    drop(seat);
    if is_over {
        tokio::select! {
            () = keys.unsplit(display).into_inner().finish() => {}
            () = open.closing.cancelled() => {}
        }
    }
}

fn admit(header: &ViewerHeader, port: u32, agent: &Agent) -> Result<(Seat, Open), Failure> {
    let seat = agent.terminals.claim(port, header)?;
    let open = agent.streams.enter(seat.stream.clone())?;
    Ok((seat, open))
}

/// Until the host closes.
async fn typing(from: &mut (impl AsyncRead + Unpin), session: &Session, read_only: bool) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut patience = TYPING_DEADLINE;
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let mut typed = chunk.get(..count).unwrap_or_default();
        while !read_only && !typed.is_empty() {
            match timeout(patience, session.write(typed)).await {
                Ok(Ok(count)) => {
                    typed = typed.get(count..).unwrap_or_default();
                    patience = TYPING_DEADLINE;
                }
                // It is not waited for again before it has taken something.
                Err(_) => {
                    patience = Duration::ZERO;
                    break;
                }
                // Without a terminal nothing can be typed; its end is told by the other direction.
                Ok(Err(_)) => break,
            }
        }
    }
}

/// Until the terminal's end, which is true, or the host closes.
async fn showing(into: &mut (impl AsyncWrite + Unpin), session: &Session, viewer: &Viewer) -> bool {
    while let Some(output) = viewer.next(session).await {
        if into.write_all(&output).await.is_err() {
            return false;
        }
    }
    true
}
