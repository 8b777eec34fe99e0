//! What a getter reads.

use std::sync::Arc;

use tokio::sync::watch;

/// The newest picture of an object, or one that stands still. Objects on the bus have the first; the projector makes
/// the same objects with the second and compares what their getters say before and after a transition.
#[derive(Clone, Debug)]
pub(super) enum Picture<T> {
    /// The newest.
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
