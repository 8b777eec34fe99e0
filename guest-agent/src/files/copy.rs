//! Streams that carry copies of files. Each is one thread's work; what the host hears meanwhile comes from here.

use std::{
    ffi::OsStr,
    io::{self, BufReader},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use nexus_archive::{ArchiveError, Draft, IdleStream, Root, Summary, Target, chunk, pack};
use nexus_protocol::{
    CopyDone, CopyIn, CopyOut, CopyReport, Failure, FailureKind, MAX_STREAM_FRAME_BYTES, Purpose, Text, Ticket, frame,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    agent::Agent,
    opening::{self, Opening},
    stream::Stream,
    streams::{Metered, Open},
};

// What ends a copy is a frame like any other of its stream.
const _: () = assert!(chunk::MAX_REPORT_BYTES == MAX_STREAM_FRAME_BYTES);

/// As many copies at a time; each has a thread and its buffers.
const MAX_COPIES: usize = 16;

/// A copy of which nothing moves for so long is over.
const IDLE: Duration = Duration::from_secs(60);

/// How often the host hears that its files are being put into their place.
const TELL: Duration = Duration::from_secs(10);

/// As long is a reason at most, in characters: a frame of a stream holds it whatever they are.
const MAX_REASON: usize = 600;

/// Who may copy.
#[derive(Debug)]
pub(crate) struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_COPIES)))
    }
}

impl Seats {
    fn sit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let full = |_| Failure::new(FailureKind::Exhausted, format!("{MAX_COPIES} copies are under way already"));
        Arc::clone(&self.0).try_acquire_owned().map_err(full)
    }
}

/// Lets the stream show its ticket, and copies what that is for.
pub(crate) async fn serve(stream: Stream, agent: Rc<Agent>) {
    match opening::open(stream, &agent, |ticket| admit(&ticket, &agent)).await {
        Opening::Open(stream, (_seat, Purpose::CopyIn(copy), open)) => take(stream, copy, &agent, &open).await,
        Opening::Open(stream, (_seat, Purpose::CopyOut(copy), open)) => give(stream, copy, &agent, &open).await,
        Opening::Open(..) | Opening::Unheard(_) | Opening::Over => {}
    }
}

fn admit(ticket: &Ticket, agent: &Agent) -> Result<(OwnedSemaphorePermit, Purpose, Open), Failure> {
    match agent.tickets.claim(ticket, Instant::now())? {
        (Purpose::Tools { .. }, _) => Err(Failure::new(FailureKind::Unauthorized, "the stream is for something else")),
        (purpose, stream) => Ok((agent.copies.sit()?, purpose, agent.streams.enter(stream)?)),
    }
}

/// The stream for the thread that copies, and what ends it.
fn socket(stream: &Stream, open: &Open) -> io::Result<(Metered<IdleStream>, IdleStream)> {
    let socket = IdleStream::new(stream.duplicate()?, IDLE);
    let end = socket.try_clone()?;
    Ok((Metered::new(socket, Arc::clone(&open.meter)), end))
}

async fn take(stream: Stream, copy: CopyIn, agent: &Agent, open: &Open) {
    let Ok((socket, end)) = socket(&stream, open) else { return };
    let mut stream = Metered::new(stream, Arc::clone(&open.meter));
    let root = Arc::clone(&agent.root);
    let mut work = spawn_blocking(move || receive(socket, &copy, &root));
    let report = loop {
        tokio::select! {
            () = open.closing.cancelled() => {
                end.close();
                // What is about to be in its place gets there.
                let _ = work.await;
                return;
            }
            received = &mut work => break match received {
                Ok(Ok(done)) => CopyReport::Done(done),
                Ok(Err(failure)) => refused(failure),
                Err(_) => refused(Failure::new(FailureKind::System, "the agent failed")),
            },
            () = sleep(TELL) => {
                // A host that is gone is noticed where something is expected of it.
                let tell = frame::write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &CopyReport::Working);
                let _ = timeout(IDLE, tell).await;
            }
        }
    };
    let finished = async move {
        let tell = frame::write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &report);
        if let Ok(Ok(())) = timeout(IDLE, tell).await {
            stream.into_inner().finish().await;
        }
    };
    tokio::select! {
        () = finished => {}
        () = open.closing.cancelled() => {}
    }
}

async fn give(stream: Stream, copy: CopyOut, agent: &Agent, open: &Open) {
    let Ok((socket, end)) = socket(&stream, open) else { return };
    let root = Arc::clone(&agent.root);
    let mut work = spawn_blocking(move || send(socket, &copy, &root));
    let sent = tokio::select! {
        sent = &mut work => sent,
        () = open.closing.cancelled() => {
            end.close();
            let _ = work.await;
            return;
        }
    };
    if let Ok(Ok(())) = sent {
        tokio::select! {
            () = stream.finish() => {}
            () = open.closing.cancelled() => {}
        }
    }
}

/// Unpacks what comes, and puts it into its place once the host has said what it was.
fn receive(source: Metered<IdleStream>, copy: &CopyIn, root: &Root) -> Result<CopyDone, Failure> {
    let broken = |error: io::Error| Failure::new(FailureKind::System, format!("the copy broke off: {error}"));
    absolute(&copy.path)?;
    let name = copy.name.as_deref().map(OsStr::new);
    let target = Target::find(root, Path::new(&copy.path), name, copy.replace).map_err(failure)?;
    let draft = Draft::begin(target).map_err(failure)?;
    let mut chunks = chunk::Reader::new(BufReader::with_capacity(chunk::MAX_BYTES, source));
    let (top, summary) = draft.unpack(0, &mut chunks).map_err(failure)?;
    let (mut source, sha256) = chunks.finish().map_err(broken)?;
    let report = chunk::read_report(&mut source).map_err(broken)?;
    match frame::decode(&report) {
        Ok(CopyReport::Done(done)) if done.sha256.as_str() == sha256 => {}
        Ok(CopyReport::Done(_)) => return Err(Failure::new(FailureKind::Invalid, "its checksum is another one")),
        Ok(CopyReport::Failure(failure)) => return Err(failure),
        Ok(CopyReport::Working) | Err(_) => {
            return Err(Failure::new(FailureKind::Invalid, "the end of the copy can't be understood"));
        }
    }
    draft.commit(&top).map_err(failure)?;
    Ok(done(summary, &sha256))
}

/// Packs what is asked for. What goes wrong is said behind the chunks, or is that the host is gone.
fn send(sink: Metered<IdleStream>, copy: &CopyOut, root: &Root) -> io::Result<()> {
    let mut chunks = chunk::Writer::new(sink);
    let packed = packed(&mut chunks, copy, root);
    let (sink, sha256) = chunks.finish()?;
    let report = match packed {
        Ok(summary) => CopyReport::Done(done(summary, &sha256)),
        Err(failure) => refused(failure),
    };
    let report = frame::encode(&report).map_err(io::Error::other)?;
    chunk::write_report(sink, &report)
}

fn packed(chunks: &mut chunk::Writer<Metered<IdleStream>>, copy: &CopyOut, root: &Root) -> Result<Summary, Failure> {
    absolute(&copy.path)?;
    let place = root.place(Path::new(&copy.path), false);
    let place = place.map_err(|source| {
        let path = copy.path.clone();
        Failure::from(super::FileError::System { act: "read", path, source })
    })?;
    pack(&place, &place.name, chunks).map(|(_, summary)| summary).map_err(failure)
}

/// Says why not, so that it fits into a frame of a stream: there may be a long path in it.
fn refused(failure: Failure) -> CopyReport {
    let brief: String = failure.message.as_str().chars().take(MAX_REASON).collect();
    CopyReport::Failure(Failure::new(failure.kind, brief))
}

fn absolute(path: &str) -> Result<(), Failure> {
    super::is_absolute(path).map_err(Failure::from)
}

fn done(summary: Summary, sha256: &str) -> CopyDone {
    let Summary { entries, bytes, left_out } = summary;
    CopyDone { entries, bytes, left_out, sha256: Text::from(sha256) }
}

fn failure(error: ArchiveError) -> Failure {
    let kind = match &error {
        ArchiveError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureKind::NotFound,
        ArchiveError::File { .. }
        | ArchiveError::Remains { .. }
        | ArchiveError::NoRoom { .. }
        | ArchiveError::Stream { .. } => FailureKind::System,
        ArchiveError::Exists { .. }
        | ArchiveError::Place { .. }
        | ArchiveError::Entry { .. }
        | ArchiveError::Archive(_) => FailureKind::Invalid,
    };
    Failure::new(kind, error.said())
}
