//! What a getter reads.

use std::sync::Arc;

use tokio::sync::watch;

/// The picture of an object that the bus was shown last, or one that stands still. Objects on the bus have the first, so
/// that nobody reads what nobody was told yet; the projector makes the same objects with the second and compares what
/// their getters say before and after a transition.
#[derive(Clone, Debug)]
pub(super) enum Picture<T> {
    /// The one that was shown last.
    Live(watch::Receiver<Arc<T>>),
    /// That of one instant.
    Still(Arc<T>),
}

impl<T> Picture<T> {
    /// The picture. Never waits.
    pub(super) fn get(&self) -> Arc<T> {
        match self {
            Self::Live(receiver) => receiver.borrow().clone(),
            Self::Still(picture) => picture.clone(),
        }
    }
}
