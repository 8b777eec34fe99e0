//! The way into the store of what happens and of who asked for what.
//!
//! One task writes, in the order in which things come, all that is there in one transaction. It does not wait for the disk:
//! what it writes survives the end of the process, and the next intent that is stored brings it to the disk. What can't be
//! written is kept and tried again, and what comes meanwhile waits behind it; of more than [`QUEUE`] the newest goes to the
//! journal alone, and it is said how many that were. Nobody waits for it but a call that begins, and that not for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nexus_model::{Id, restart::Backoff};
use nexus_store::{CallEnd, NewCall, NewEvent, Store};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::store::StoreHandle;

/// What may wait to be written. It is more than 1,000 VMs that fail at once need.
const QUEUE: usize = 8192;
/// So much is written at once, so that the store is free for others in between.
const BATCH: usize = 512;
/// For this long a call waits until it is written down that it came.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between one try to write and the next.
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(5), jitter: 0.2 };

enum Record {
    Event(NewEvent),
    Begun(Box<NewCall>),
    Ended(Id, Box<CallEnd>),
}

enum Message {
    Write(Record),
    /// Answered once all before it was written.
    Barrier(oneshot::Sender<()>),
}

/// Hands over what is to be written down. Clones hand over to the same task.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Message>,
    /// How many did not fit into the queue since the last that was written.
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Begins to write, first of all what ended with the daemon before this one, and that this one began.
    pub(crate) fn start(store: StoreHandle, begun: NewEvent) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        let lost = Arc::default();
        tokio::spawn(write(store, begun, messages, Arc::clone(&lost)));
        Self { queue, lost }
    }

    /// Something happened.
    pub(crate) fn event(&self, event: NewEvent) {
        self.put(Record::Event(event));
    }

    /// A call came. Returns when that is written, or should have been.
    pub(crate) async fn call_begun(&self, call: NewCall) {
        self.put(Record::Begun(Box::new(call)));
        self.written().await;
    }

    /// A call was answered.
    pub(crate) fn call_ended(&self, request: Id, end: CallEnd) {
        self.put(Record::Ended(request, Box::new(end)));
    }

    /// Returns when all that came before is written, or should have been.
    pub(crate) async fn written(&self) {
        let (done, written) = oneshot::channel();
        let _ = self.queue.try_send(Message::Barrier(done));
        if tokio::time::timeout(PATIENCE, written).await.is_err() {
            warn!("the store is slow: things go on before it is written down who asked for them");
        }
    }

    fn put(&self, record: Record) {
        if self.queue.try_send(Message::Write(record)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Record {
    fn write(&self, store: &mut Store) -> Result<(), nexus_store::Error> {
        match self {
            Self::Event(event) => store.insert_event(event),
            Self::Begun(call) => store.begin_call(call),
            Self::Ended(request, end) => store.end_call(*request, end),
        }
    }
}

/// What is written in one transaction.
#[derive(Default)]
struct Batch {
    /// That this daemon began. Until that is written nothing is, or its calls would be taken for those of the one before.
    begun: Option<NewEvent>,
    records: Vec<Record>,
    /// The store may have written it, and not been able to say so any more.
    written: AtomicBool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.begun.is_none() && self.records.is_empty()
    }

    /// Writes it once, however often it is tried.
    fn write(&self, store: &mut Store) -> Result<(), nexus_store::Error> {
        if self.written.load(Ordering::Relaxed) {
            return Ok(());
        }
        store.together_unsynced(|store| {
            if let Some(begun) = &self.begun {
                store.calls_cut_off()?;
                let disorder = store.ended_in_order()? == Some(false);
                let more = if disorder { "; the one before it did not end in order" } else { "" };
                store.insert_event(&NewEvent { detail: format!("{}{more}", begun.detail), ..begun.clone() })?;
            }
            self.records.iter().try_for_each(|record| record.write(store))
        })?;
        self.written.store(true, Ordering::Relaxed);
        Ok(())
    }
}

async fn write(store: StoreHandle, begun: NewEvent, mut messages: mpsc::Receiver<Message>, lost: Arc<AtomicU64>) {
    let mut batch = Batch { begun: Some(begun), ..Batch::default() };
    let (mut taken, mut waiting) = (Vec::new(), Vec::new());
    loop {
        if !batch.is_empty() && !write_down(&store, batch, &messages).await {
            return;
        }
        for done in waiting.drain(..) {
            let _ = oneshot::Sender::send(done, ());
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!("the store did not keep up: {lost} records of what happened, or who asked, are in the journal alone");
        }
        if messages.recv_many(&mut taken, BATCH).await == 0 {
            return;
        }
        batch = Batch::default();
        for message in taken.drain(..) {
            match message {
                Message::Write(record) => batch.records.push(record),
                Message::Barrier(done) => waiting.push(done),
            }
        }
    }
}

/// Tries until it is written. False when it is not, and nobody is left to whom that matters.
async fn write_down(store: &StoreHandle, batch: Batch, messages: &mpsc::Receiver<Message>) -> bool {
    let batch = Arc::new(batch);
    let mut attempt = 0_u32;
    loop {
        // The store may break with it in its mailbox.
        let tried = Arc::clone(&batch);
        let Err(error) = store.call(move |store| tried.write(store)).await else { return true };
        if messages.is_closed() {
            warn!("what happened last is in the journal alone: {}", error.text());
            return false;
        }
        if attempt == 0 {
            warn!("what happened is in the journal alone until the store is well again: {}", error.text());
        }
        tokio::time::sleep(BACKOFF.delay(attempt, fastrand::f64())).await;
        attempt = attempt.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use nexus_model::EventKind;

    use super::*;

    #[tokio::test]
    async fn what_the_queue_has_no_room_for_is_counted() {
        let event = || NewEvent::now(EventKind::DaemonStarted, "daemon".to_owned());
        let recorder = Recorder::start(StoreHandle::new(), event());
        (0..QUEUE + 3).for_each(|_| recorder.event(event()));
        // Not a record, and nobody waits for it.
        recorder.written().await;
        assert_eq!(recorder.lost.load(Ordering::Relaxed), 3);
    }
}
