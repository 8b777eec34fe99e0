//! The streams that the host asked for and opened: what each has carried, and its end.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::{self, Read, Write},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use nexus_protocol::{Failure, FailureKind, Label, StreamInfo, StreamKind, StreamList};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// A stream that the host may open.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) number: u64,
    pub(crate) kind: StreamKind,
    pub(crate) port: u32,
    pub(crate) label: Option<Label>,
}

/// The streams that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: Cell<u64>,
    open: RefCell<BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    announced: Announced,
    since: Instant,
    meter: Arc<Meter>,
    closing: CancellationToken,
    ended: CancellationToken,
}

/// A stream that is open; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    number: u64,
    streams: Streams,
    pub(crate) meter: Arc<Meter>,
    /// Cancelled when the host wants it to end.
    pub(crate) closing: CancellationToken,
}

/// A stream of several connections: open from the first of them to the end of the last, and as long as more may come.
#[derive(Debug)]
pub(crate) struct Joint {
    announced: Announced,
    open: Option<Rc<Open>>,
}

impl Joint {
    pub(crate) const fn new(announced: Announced) -> Self {
        Self { announced, open: None }
    }

    /// One of them was opened.
    pub(crate) fn enter(&mut self, streams: &Streams) -> Result<Rc<Open>, Failure> {
        if let Some(open) = &self.open {
            return Ok(Rc::clone(open));
        }
        let open = Rc::new(streams.enter(self.announced.clone())?);
        self.open = Some(Rc::clone(&open));
        Ok(open)
    }
}

impl Streams {
    /// Numbers a stream that the host may open.
    pub(crate) fn announce(&self, kind: StreamKind, port: u32, label: Option<Label>) -> Announced {
        let number = self.0.last.get() + 1;
        self.0.last.set(number);
        Announced { number, kind, port, label }
    }

    /// It was opened.
    pub(crate) fn enter(&self, announced: Announced) -> Result<Open, Failure> {
        let mut open = self.0.open.borrow_mut();
        if open.len() >= StreamList::MAX {
            let message = format!("{} streams are open already", StreamList::MAX);
            return Err(Failure::new(FailureKind::Exhausted, message));
        }
        let number = announced.number;
        let (meter, closing) = (Arc::<Meter>::default(), CancellationToken::new());
        let entry = Entry {
            announced,
            since: Instant::now(),
            meter: Arc::clone(&meter),
            closing: closing.clone(),
            ended: CancellationToken::new(),
        };
        open.insert(number, entry);
        Ok(Open { number, streams: self.clone(), meter, closing })
    }

    /// All of them.
    pub(crate) fn list(&self) -> StreamList {
        let open = self.0.open.borrow();
        let info = |entry: &Entry| StreamInfo {
            stream: entry.announced.number,
            kind: entry.announced.kind,
            port: entry.announced.port,
            label: entry.announced.label.clone(),
            age_us: u64::try_from(entry.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            from_host: entry.meter.from_host.load(Ordering::Relaxed),
            to_host: entry.meter.to_host.load(Ordering::Relaxed),
        };
        open.values().map(info).collect()
    }

    /// Until it has ended.
    pub(crate) async fn wait(&self, number: u64) {
        let ended = self.0.open.borrow().get(&number).map(|entry| entry.ended.clone());
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// Has it end.
    pub(crate) fn close(&self, number: u64) -> Result<(), Failure> {
        let open = self.0.open.borrow();
        let unknown = || Failure::new(FailureKind::NotFound, format!("there is no stream {number}"));
        open.get(&number).ok_or_else(unknown)?.closing.cancel();
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let entry = self.streams.0.open.borrow_mut().remove(&self.number);
        if let Some(entry) = entry {
            entry.ended.cancel();
        }
    }
}

/// Counts bytes.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    from_host: AtomicU64,
    to_host: AtomicU64,
}

impl Meter {
    fn count(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(crate) const fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    /// The stream itself.
    pub(crate) fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        Meter::count(&this.meter.from_host, buf.filled().len().saturating_sub(before));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            Meter::count(&this.meter.to_host, *count);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: Read> Read for Metered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        Meter::count(&self.meter.from_host, count);
        Ok(count)
    }
}

impl<S: Write> Write for Metered<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        Meter::count(&self.meter.to_host, count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_are_few_and_end() {
        let streams = Streams::default();
        let announce = || streams.announce(StreamKind::Tools, 200, Some(Label::from(":1.7")));
        let mut open: Vec<Open> = (0..StreamList::MAX).map(|_| streams.enter(announce()).unwrap()).collect();
        assert_eq!(streams.enter(announce()).unwrap_err().kind, FailureKind::Exhausted);
        let last = open.pop().unwrap();
        streams.close(last.number).unwrap();
        assert!(last.closing.is_cancelled() && !open[0].closing.is_cancelled());
        let (waiting, ending) = (streams.wait(last.number), async { drop(last) });
        tokio::join!(waiting, ending);
        assert_eq!(streams.list().iter().count(), StreamList::MAX - 1);
        let gone = u64::try_from(StreamList::MAX).unwrap();
        streams.wait(gone).await;
        assert_eq!(streams.close(gone).unwrap_err().kind, FailureKind::NotFound);
        let mut one = Metered::new(io::Cursor::new(vec![0; 9]), Arc::clone(&open[0].meter));
        one.read_exact(&mut [0; 3]).unwrap();
        one.write_all(&[1; 5]).unwrap();
        let list = streams.list();
        let first = list.iter().next().unwrap();
        assert_eq!((first.stream, first.from_host, first.to_host), (open[0].number, 3, 5));
        assert_eq!(first.label, Some(Label::from(":1.7")));
    }
}
