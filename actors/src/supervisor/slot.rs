//! Where callers find the current incarnation of an actor.

use std::{fmt, time::Duration};

use ractor::{ActorCell, ActorId, ActorRef, ActorStatus, Message};
use tokio::sync::watch;

/// The current incarnation of a supervised actor, for those who send to it.
///
/// An `ActorRef` is stale after a restart; a slot never is: the supervisor fills it when an incarnation is up and
/// empties it when it ends. Clones are the same slot. Hand it to the child's specification with
/// [`ChildSpec::published_in`](super::ChildSpec::published_in), and keep a clone wherever the actor is called from.
pub struct ActorSlot<M> {
    current: watch::Sender<Option<ActorRef<M>>>,
}

impl<M: Message> ActorSlot<M> {
    /// An empty slot.
    #[must_use]
    pub fn new() -> Self {
        Self { current: watch::Sender::new(None) }
    }

    /// The incarnation that is up now, if one is.
    #[must_use]
    pub fn now(&self) -> Option<ActorRef<M>> {
        self.current.borrow().as_ref().filter(|actor| is_alive(actor)).cloned()
    }

    /// The incarnation that is up now, or the next one if it is up within `deadline`.
    ///
    /// # Deadlocks
    ///
    /// A supervisor fills the slots of its children, so an actor must not wait here in its `pre_start` or `post_start`
    /// for a later sibling under [`Strategy::RestForOne`](super::Strategy::RestForOne), or for itself.
    pub async fn current(&self, deadline: Duration) -> Option<ActorRef<M>> {
        let mut receiver = self.current.subscribe();
        let alive = receiver.wait_for(|current| current.as_ref().is_some_and(|actor| is_alive(actor)));
        match tokio::time::timeout(deadline, alive).await {
            Ok(Ok(current)) => current.clone(),
            _ => None,
        }
    }
}

fn is_alive(actor: &ActorCell) -> bool {
    actor.get_status() < ActorStatus::Draining
}

impl<M: Message> Default for ActorSlot<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for ActorSlot<M> {
    fn clone(&self) -> Self {
        Self { current: self.current.clone() }
    }
}

impl<M> fmt::Debug for ActorSlot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorSlot").field(&self.current.borrow()).finish()
    }
}

/// A slot whose message type is not known to the supervisor.
pub(super) trait Resolve: Send + Sync {
    /// `actor` is up. False when it takes other messages than the slot is for.
    fn fill(&self, actor: &ActorCell) -> bool;

    /// `actor` has ended: empties the slot unless a later incarnation is in it.
    fn empty(&self, actor: ActorId);
}

impl<M: Message> Resolve for ActorSlot<M> {
    fn fill(&self, actor: &ActorCell) -> bool {
        let fits = actor.is_message_type_of::<M>() == Some(true);
        self.current.send_replace(fits.then(|| actor.clone().into()));
        fits
    }

    fn empty(&self, actor: ActorId) {
        self.current.send_if_modified(|current| current.take_if(|current| current.get_id() == actor).is_some());
    }
}
