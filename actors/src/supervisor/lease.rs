//! Proof that something of an incarnation is still there.

use std::sync::Arc;

use tokio::sync::watch;

/// Held by everything that belongs to one incarnation of a child: its state, its tasks, its threads and the whole
/// subtree below it. The supervisor waits (bounded by [`ChildSpec::shutdown`](super::ChildSpec::shutdown)) until every
/// clone is gone before it starts the next incarnation, so that two never overlap: ractor ends the children of a dead
/// actor without waiting for them, and one in synchronous code goes on for as long as it likes.
///
/// Put it in the actor's state, and in whatever the state doesn't own.
#[derive(Clone, Debug)]
pub struct Lease {
    _incarnation: watch::Receiver<()>,
    /// What belongs to a child belongs to its supervisor, too.
    _supervisor: Option<Arc<Lease>>,
}

/// The supervisor's end: knows whether any [`Lease`] is left.
#[derive(Clone, Debug)]
pub(super) struct Lessor {
    incarnation: Arc<watch::Sender<()>>,
    supervisor: Option<Arc<Lease>>,
}

impl Lessor {
    /// For an incarnation below an actor that holds `supervisor` itself.
    pub(super) fn new(supervisor: Option<Arc<Lease>>) -> Self {
        Self { incarnation: Arc::new(watch::Sender::new(())), supervisor }
    }

    pub(super) fn lease(&self) -> Lease {
        Lease { _incarnation: self.incarnation.subscribe(), _supervisor: self.supervisor.clone() }
    }

    /// Returns when no lease is left.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let incarnation = Arc::clone(&self.incarnation);
        async move { incarnation.closed().await }
    }
}
