//! What the agent says unasked, and how much of it is taken.

use std::{sync::Arc, time::Duration};

use nexus_protocol::Event;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::{Disconnect, connection::Ended};

/// As many events may come at once.
const BURST: u32 = 64;

/// In the long run there may be one in this time: 32 a second.
const INTERVAL: Duration = Duration::from_micros(31_250);

/// As many events are kept for a receiver that is slow: it may wait for an answer of the agent's meanwhile.
const QUEUE: usize = 512;

/// What the agent says unasked.
#[derive(Debug)]
pub struct AgentEvents {
    receiver: mpsc::Receiver<Event>,
    ended: Ended,
}

impl AgentEvents {
    /// The next event; `None` when the connection is gone.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// Why the connection is gone, once it is.
    #[must_use]
    pub fn disconnect(&self) -> Option<Arc<Disconnect>> {
        self.ended.get().cloned()
    }
}

/// Where the connection puts events: a token bucket before a queue.
#[derive(Debug)]
pub(super) struct EventSink {
    sender: mpsc::Sender<Event>,
    /// Until when the events so far would have taken at one an [`INTERVAL`].
    paid_until: Instant,
}

impl EventSink {
    /// A sink, and what comes out of it.
    pub(super) fn new(ended: Ended) -> (Self, AgentEvents) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender, paid_until: Instant::now() }, AgentEvents { receiver, ended })
    }

    /// Takes an event, unless there are more than an honest agent has to tell.
    pub(super) fn put(&mut self, event: Event) -> Result<(), Disconnect> {
        let now = Instant::now();
        let paid_until = self.paid_until.max(now) + INTERVAL;
        if paid_until > now + INTERVAL * BURST {
            return Err(Disconnect::Flood);
        }
        self.paid_until = paid_until;
        match self.sender.try_send(event) {
            // Nobody listens: the owner of the receiver has no use for events.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Disconnect::Flood),
        }
    }
}
