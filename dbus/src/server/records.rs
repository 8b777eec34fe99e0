//! `Manager.OpenAudit` and `Manager.OpenEvents`: long lists as lines of JSON over a descriptor, and what comes after them.
//!
//! The list is read piece by piece, each when the reader has taken the one before, so a slow reader holds neither memory nor
//! the store. What it was too slow for is what was forgotten meanwhile. Who follows a list waits for a store that is away.

use std::{io, os::fd::OwnedFd, time::Duration};

use nexus_actors::{CallRow, Engine, EventRow, Filter, Written};
use nexus_model::{ErrorKind, Timestamp};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
};
use tracing::debug;

use super::options::Options;
use crate::{CALLS_UNDER_WAY, Error};

/// So many rows are read at once.
const PIECE: u32 = 256;
/// Before a store that could not be read is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Who asked for what.
    Audit,
    /// What happened.
    Events,
}

/// What of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    filter: Filter,
    /// Go on with what comes from now on.
    follow: bool,
    /// Begin with the newest so many; none is all that are kept.
    limit: Option<u32>,
    /// Begin behind this number.
    after: u64,
}

impl Wanted {
    pub(super) fn decode(options: &mut Options) -> Result<Self, Error> {
        let vm: Option<String> = options.take("vm")?;
        if vm.as_deref() == Some("") {
            return Err(Error::invalid_args("option `vm` must be a name or an id"));
        }
        let since = Timestamp(options.take("since")?.unwrap_or_default());
        let until: Option<u64> = options.take("until")?;
        let wanted = Self {
            filter: Filter { vm, since, until: Timestamp(until.unwrap_or_default()) },
            follow: options.take("follow")?.unwrap_or_default(),
            limit: options.take("limit")?,
            after: options.take("after")?.unwrap_or_default(),
        };
        if wanted.follow && until.is_some() {
            return Err(Error::invalid_args("options `follow` and `until` exclude each other: leave one out"));
        }
        Ok(wanted)
    }
}

/// The reading end of a stream of a list.
pub(super) async fn open(engine: &Engine, list: List, wanted: Wanted) -> Result<OwnedFd, Error> {
    let failed =
        |error: io::Error| Error::new(ErrorKind::ResourcesExhausted, format!("there is no stream to be had: {error}"));
    let after = list.begin(engine, &wanted).await?;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = theirs.into_std().and_then(|theirs| theirs.set_nonblocking(false).map(|()| theirs)).map_err(failed)?;
    let written = engine.written();
    let stream = Stream { engine: engine.clone(), list, wanted, after, under_way: Vec::new(), reader: ours };
    tokio::spawn(async move {
        if let Err(error) = stream.pump(written).await {
            debug!(%error, "a list ended early");
        }
    });
    Ok(theirs.into())
}

impl List {
    /// The number after which what is wanted begins.
    async fn begin(self, engine: &Engine, wanted: &Wanted) -> Result<u64, Error> {
        let count = wanted.limit;
        let filter = wanted.filter.clone();
        let newest = match self {
            Self::Audit => engine.calls_before_newest(filter, count).await?,
            Self::Events => engine.events_before_newest(filter, count).await?,
        };
        Ok(newest.max(wanted.after))
    }
}

struct Stream {
    engine: Engine,
    list: List,
    wanted: Wanted,
    after: u64,
    /// The calls that will be told once they have ended.
    under_way: Vec<u64>,
    reader: UnixStream,
}

/// Why a stream ends before its list.
#[derive(Debug)]
enum Broken {
    Reader(io::Error),
    Store(nexus_actors::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reader(error) => error.fmt(f),
            Self::Store(error) => f.write_str(&error.text()),
        }
    }
}

impl Stream {
    async fn pump(mut self, mut written: watch::Receiver<Written>) -> Result<(), Broken> {
        let mut nothing = [0; 1];
        loop {
            // What is written from here on is looked for again.
            let last = written.borrow_and_update().is_last();
            let failed = match self.tell().await {
                Ok(()) if last || !self.wanted.follow => return Ok(()),
                Ok(()) => false,
                Err(Broken::Store(error)) if self.wanted.follow && !self.is_ending() => {
                    debug!("a list waits for the store: {}", error.text());
                    true
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                () = tokio::time::sleep(PAUSE), if failed => {}
                changed = written.changed(), if !failed => if changed.is_err() { return Ok(()) },
                // Whoever only reads never sends anything, so this is the end of it.
                _ = self.reader.read(&mut nothing) => return Ok(()),
            }
        }
    }

    /// Whether the store goes for good.
    fn is_ending(&self) -> bool {
        self.engine.board().manager().borrow().draining
    }

    /// Tells all that there is and was not told yet.
    async fn tell(&mut self) -> Result<(), Broken> {
        if !self.under_way.is_empty() {
            let ended = self.engine.calls_ended(self.under_way.clone()).await.map_err(Broken::Store)?;
            self.under_way.retain(|number| ended.iter().all(|row| row.seq != *number));
            self.write(ended.iter().map(call).collect()).await?;
        }
        loop {
            let (lines, next, last) = self.piece().await?;
            self.write(lines).await?;
            self.after = next;
            if last {
                return Ok(());
            }
        }
    }

    async fn piece(&mut self) -> Result<(Vec<Value>, u64, bool), Broken> {
        let filter = self.wanted.filter.clone();
        match self.list {
            List::Events => {
                let page = self.engine.events(filter, self.after, PIECE).await.map_err(Broken::Store)?;
                Ok((page.rows.iter().map(event).collect(), page.next, page.last))
            }
            List::Audit => {
                let page = self.engine.calls(filter, self.after, PIECE).await.map_err(Broken::Store)?;
                let later = |row: &CallRow| self.wanted.follow && row.end.is_none();
                let numbers = page.rows.iter().filter(|row| later(row)).map(|row| row.seq);
                self.under_way.extend(numbers);
                let lines = page.rows.iter().filter(|row| !later(row)).map(call).collect();
                let excess = self.under_way.len().saturating_sub(CALLS_UNDER_WAY);
                self.under_way.drain(..excess);
                Ok((lines, page.next, page.last))
            }
        }
    }

    async fn write(&mut self, lines: Vec<Value>) -> Result<(), Broken> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.reader.write_all(text.as_bytes()).await.map_err(Broken::Reader)
    }
}

/// An event as a line. Its keys are part of the contract: `Manager.OpenEvents`.
fn event(EventRow { seq, event }: &EventRow) -> Value {
    let vm = event.vm.as_ref();
    json!({
        "seq": seq,
        "at_usec": event.at.0,
        "kind": event.kind.as_str(),
        "subject": event.subject,
        "vm": vm.map(|vm| vm.name.as_str()).unwrap_or_default(),
        "vm_id": vm.and_then(|vm| vm.id).map(|id| id.to_string()).unwrap_or_default(),
        "from": event.from,
        "to": event.to,
        "reason": event.reason,
        "detail": event.detail,
    })
}

/// A call as a line. Its keys are part of the contract: `Manager.OpenAudit`.
fn call(CallRow { seq, call, end }: &CallRow) -> Value {
    let (vm, end) = (call.vm.as_ref(), end.as_ref());
    json!({
        "seq": seq,
        "at_usec": call.at.0,
        "request": call.request.to_string(),
        "sender": call.sender,
        "pid": call.pid,
        "executable": call.executable,
        "unit": call.unit,
        "caller_reason": call.caller_reason,
        "path": call.path,
        "member": call.member,
        "subject": call.subject,
        "vm": vm.map(|vm| vm.name.as_str()).unwrap_or_default(),
        "vm_id": vm.and_then(|vm| vm.id).map(|id| id.to_string()).unwrap_or_default(),
        "arguments": call.arguments,
        "before": call.before,
        "after": end.map(|end| end.after.as_str()).unwrap_or_default(),
        "job": end.map(|end| end.job).unwrap_or_default(),
        "result": end.map(|end| end.result.as_str()).unwrap_or_default(),
        "message": end.map(|end| end.message.as_str()).unwrap_or_default(),
        "took_usec": end.map(|end| nexus_model::microseconds(end.took)).unwrap_or_default(),
    })
}
