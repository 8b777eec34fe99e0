//! The way into the store of what happens and of who asked for what.
//!
//! One task writes, in the order in which things come, all that is there in one transaction. It does not wait for the disk:
//! what it writes survives the end of the process, and the next intent that is stored brings it to the disk. Nobody waits
//! for it but a call that begins, and that not for long: where the store is not well, things go on and the journal says what
//! is missing.

use std::time::Duration;

use nexus_model::Id;
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

enum Record {
    Event(NewEvent),
    Begun(Box<NewCall>),
    Ended(Id, Box<CallEnd>),
    /// Answered once all before it was written, or could not be.
    Barrier(oneshot::Sender<()>),
}

/// Hands over what is to be written down. Clones hand over to the same task.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Record>,
}

impl Recorder {
    /// Begins to write, first of all what ended with the daemon before this one, and that this one began.
    pub(crate) fn start(store: StoreHandle, begun: NewEvent) -> Self {
        let (queue, records) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, begun, records));
        Self { queue }
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
        self.put(Record::Barrier(done));
        if tokio::time::timeout(PATIENCE, written).await.is_err() {
            warn!("the store is slow: things go on before it is written down who asked for them");
        }
    }

    fn put(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            warn!("the store does not keep up: what happens now is in the journal alone");
        }
    }
}

impl Record {
    fn write(&self, store: &mut Store) -> Result<(), nexus_store::Error> {
        match self {
            Self::Event(event) => store.insert_event(event),
            Self::Begun(call) => store.begin_call(call),
            Self::Ended(request, end) => store.end_call(*request, end),
            Self::Barrier(_) => Ok(()),
        }
    }
}

async fn write(store: StoreHandle, begun: NewEvent, mut records: mpsc::Receiver<Record>) {
    // Until that is written nothing is, or the calls of this daemon would be taken for those of the one before.
    let mut begun = Some(begun);
    let mut batch = Vec::new();
    loop {
        let (first, taken) = (begun.clone(), std::mem::take(&mut batch));
        let written = store
            .call(move |store| {
                let written = store.together_unsynced(|store| {
                    if let Some(begun) = &first {
                        store.calls_cut_off()?;
                        store.insert_event(begun)?;
                    }
                    taken.iter().try_for_each(|record: &Record| record.write(store))
                });
                for record in taken {
                    if let Record::Barrier(done) = record {
                        let _ = done.send(());
                    }
                }
                written
            })
            .await;
        match written {
            Ok(()) => begun = None,
            Err(error) => warn!("what happened is in the journal alone: {}", error.text()),
        }
        if records.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
    }
}
