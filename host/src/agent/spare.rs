//! Spare connections: those to an agent's ports that are there before anybody wants one.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{select_all, try_join_all};
use nexus_protocol::{BULK_PORT, Features, STREAM_PORT, TERMINAL_PORTS, TOOLS_PORT};
use tokio::{
    io::AsyncReadExt,
    sync::{oneshot, watch},
};

use super::{AgentClient, AgentError};
use crate::vsock::Stream;

/// What spare connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpareKind {
    /// A session of the Model Context Protocol.
    Tools,
    /// The first viewer of the next terminal.
    Terminal,
    /// A copy of files.
    Bulk,
    /// The stdio of a command: three connections.
    Stdio,
}

impl SpareKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Terminal, Self::Bulk, Self::Stdio];

    /// The vsock port, but of a terminal, which is where the agent says that the next one will be.
    #[must_use]
    pub const fn port(self) -> Option<u32> {
        match self {
            Self::Tools => Some(TOOLS_PORT),
            Self::Terminal => None,
            Self::Bulk => Some(BULK_PORT),
            Self::Stdio => Some(STREAM_PORT),
        }
    }

    /// The word of agents that have what it is for, and what the others can't do; of [`Stdio`](Self::Stdio) none, which all
    /// have.
    const fn feature(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tools => Some((Features::TOOLS, "serve tools")),
            Self::Terminal => Some((Features::TERMINALS, "open terminals")),
            Self::Bulk => Some((Features::COPY, "copy files")),
            Self::Stdio => None,
        }
    }

    const fn streams(self) -> usize {
        match self {
            Self::Tools | Self::Terminal | Self::Bulk => 1,
            Self::Stdio => 3,
        }
    }
}

/// What is spare for the callers of one control connection.
#[derive(Debug)]
pub(super) struct Spares {
    offers: Mutex<BTreeMap<SpareKind, Offer>>,
    next_terminal: watch::Sender<NextTerminal>,
}

/// Where the agent says that the next terminal will be.
#[derive(Debug, Default)]
struct NextTerminal {
    port: Option<u32>,
    /// The stream with whose terminal it said so: these are numbered as it answers, and come to their callers in any order.
    stream: u64,
}

#[derive(Debug)]
struct Offer {
    port: u32,
    taker: oneshot::Sender<oneshot::Sender<Vec<Stream>>>,
}

impl Spares {
    pub(super) fn new(next_terminal: Option<u32>) -> Arc<Self> {
        let spares = Self { offers: Mutex::default(), next_terminal: watch::Sender::default() };
        spares.next_terminal_is(next_terminal, None);
        Arc::new(spares)
    }

    /// The agent has said so, with the terminal of that stream.
    pub(super) fn next_terminal_is(&self, port: Option<u32>, stream: Option<u64>) {
        self.next_terminal.send_if_modified(|next| {
            let stream = stream.unwrap_or(next.stream);
            let is_newer = stream >= next.stream;
            if is_newer {
                *next = NextTerminal { port: port.filter(|port| TERMINAL_PORTS.contains(port)), stream };
            }
            is_newer
        });
    }

    /// What is spare for that and on that port, if anything is.
    pub(super) async fn take(&self, kind: SpareKind, port: u32) -> Vec<Stream> {
        let offer = match self.offers().entry(kind) {
            Entry::Occupied(offer) if offer.get().port == port => offer.remove(),
            _ => return Vec::new(),
        };
        let (give, given) = oneshot::channel();
        // Fails when they are not there any more.
        match offer.taker.send(give) {
            Ok(()) => given.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    fn offers(&self) -> MutexGuard<'_, BTreeMap<SpareKind, Offer>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that nobody has used yet.
#[derive(Debug)]
pub struct Spare {
    kind: SpareKind,
    port: u32,
    streams: Vec<Stream>,
    taken: oneshot::Receiver<oneshot::Sender<Vec<Stream>>>,
    spares: Arc<Spares>,
}

/// How connections ended to be spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpareEnd {
    /// Somebody uses them now.
    Taken,
    /// They are of no use any more: the next terminal will be somewhere else, or others are spare instead.
    Moved,
    /// One of them was closed on the guest's side, or has carried what nobody asked for.
    Lost,
}

impl Spare {
    /// Whoever wants one has these from now on, if they are kept.
    fn offer(kind: SpareKind, port: u32, streams: Vec<Stream>, spares: &Arc<Spares>) -> Self {
        let (taker, taken) = oneshot::channel();
        spares.offers().insert(kind, Offer { port, taker });
        Self { kind, port, streams, taken, spares: Arc::clone(spares) }
    }

    /// Their vsock port.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Keeps them for whoever needs one next, until their end.
    pub async fn keep(mut self) -> SpareEnd {
        let mut next_terminal = self.spares.next_terminal.subscribe();
        tokio::select! {
            taker = self.taken => match taker {
                // Whoever wanted them may be gone.
                Ok(taker) => {
                    let _ = taker.send(self.streams);
                    SpareEnd::Taken
                }
                // Others are spare instead.
                Err(_) => SpareEnd::Moved,
            },
            () = disturbed(&mut self.streams) => SpareEnd::Lost,
            _ = next_terminal.wait_for(|next| next.port != Some(self.port)), if self.kind == SpareKind::Terminal => SpareEnd::Moved,
        }
    }
}

/// Until one of them has ended, or something has come.
async fn disturbed(streams: &mut [Stream]) {
    let _ = select_all(streams.iter_mut().map(|stream| Box::pin(stream.read_u8()))).await;
}

impl AgentClient {
    /// Whether the agent lets connections for that wait until somebody wants them.
    ///
    /// # Errors
    /// [`AgentError::TooOld`].
    pub fn takes_spares(&self, kind: SpareKind) -> Result<(), AgentError> {
        if !self.has(Features::SPARES) {
            return Err(self.too_old("have spare connections"));
        }
        match kind.feature() {
            Some((feature, act)) if !self.has(feature) => Err(self.too_old(act)),
            _ => Ok(()),
        }
    }

    /// The vsock port of spare connections for that; none while the guest has none left for another terminal.
    #[must_use]
    pub fn spare_port(&self, kind: SpareKind) -> Option<u32> {
        kind.port().or_else(|| self.spares.next_terminal.borrow().port)
    }

    /// Waits until the guest has said of a port where another terminal can be, if it has not.
    pub async fn wait_terminal_port(&self) {
        let mut next = self.spares.next_terminal.subscribe();
        // It is never closed: this has the sender.
        let _ = next.wait_for(|next| next.port.is_some()).await;
    }

    /// Opens spare connections to that [port](Self::spare_port), for the caller of this client that needs one next as long
    /// as they are [kept](Spare::keep).
    ///
    /// # Errors
    /// [`AgentError::Unreachable`].
    pub async fn open_spare(&self, kind: SpareKind, port: u32) -> Result<Spare, AgentError> {
        let connect = (0..kind.streams()).map(|_| self.endpoint.connect(port));
        let streams = try_join_all(connect).await.map_err(AgentError::Unreachable)?;
        Ok(Spare::offer(kind, port, streams, &self.spares))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::UnixStream, task::JoinHandle};

    use super::*;

    /// Keeps one for that port, with what the guest has of it.
    async fn keep(spares: &Arc<Spares>, kind: SpareKind, port: u32) -> (JoinHandle<SpareEnd>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let kept = tokio::spawn(Spare::offer(kind, port, vec![Stream::Unix(ours)], spares).keep());
        (kept, theirs)
    }

    #[tokio::test]
    async fn who_wants_one_has_it_and_nobody_else() {
        let spares = Spares::new(None);
        assert!(spares.take(SpareKind::Tools, 200).await.is_empty(), "nothing is there");
        let (kept, mut theirs) = keep(&spares, SpareKind::Tools, 200).await;
        assert!(
            spares.take(SpareKind::Bulk, 200).await.is_empty() && spares.take(SpareKind::Tools, 201).await.is_empty()
        );
        let mut taken = spares.take(SpareKind::Tools, 200).await;
        assert_eq!(kept.await.unwrap(), SpareEnd::Taken);
        assert!(spares.take(SpareKind::Tools, 200).await.is_empty(), "it is somebody's");
        taken[0].write_u8(7).await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_the_guest_closes_or_speaks_on_is_lost() {
        let spares = Spares::new(None);
        let (kept, theirs) = keep(&spares, SpareKind::Bulk, 102).await;
        drop(theirs);
        assert_eq!(kept.await.unwrap(), SpareEnd::Lost);
        assert!(spares.take(SpareKind::Bulk, 102).await.is_empty());
        let (kept, mut theirs) = keep(&spares, SpareKind::Bulk, 102).await;
        theirs.write_u8(7).await.unwrap();
        assert_eq!(kept.await.unwrap(), SpareEnd::Lost);
    }

    #[tokio::test]
    async fn who_stops_keeping_one_offers_it_no_more() {
        let spares = Spares::new(None);
        let (kept, _theirs) = keep(&spares, SpareKind::Stdio, 101).await;
        let (other, _theirs) = keep(&spares, SpareKind::Stdio, 101).await;
        assert_eq!(kept.await.unwrap(), SpareEnd::Moved, "another is there instead");
        other.abort();
        assert!(other.await.unwrap_err().is_cancelled());
        assert!(spares.take(SpareKind::Stdio, 101).await.is_empty());
    }

    #[tokio::test]
    async fn that_of_a_terminal_moves_on_with_the_next_one() {
        let spares = Spares::new(Some(300));
        let (kept, _theirs) = keep(&spares, SpareKind::Terminal, 300).await;
        spares.next_terminal_is(Some(301), Some(7));
        assert_eq!(kept.await.unwrap(), SpareEnd::Moved);
        assert!(spares.take(SpareKind::Terminal, 300).await.is_empty());
        // That was said before, to somebody who comes later.
        spares.next_terminal_is(Some(300), Some(6));
        assert_eq!(spares.next_terminal.borrow().port, Some(301));
        for nonsense in [None, Some(100), Some(400)] {
            spares.next_terminal_is(nonsense, Some(8));
            assert_eq!(spares.next_terminal.borrow().port, None, "{nonsense:?} is no port of terminals");
        }
    }
}
