//! Where callers find the current incarnation of an actor.

use std::{fmt, sync::Arc, time::Duration};

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

/// An [`ActorSlot`] of whatever message type, as a supervisor has it.
#[derive(Clone)]
pub struct AnySlot(Arc<dyn Resolve>);

impl AnySlot {
    /// `actor` is up. False when it takes other messages than the slot is for.
    pub(super) fn fill(&self, actor: &ActorCell) -> bool {
        self.0.fill(actor)
    }

    /// `actor` has ended: empties the slot unless a later incarnation is in it.
    pub(super) fn empty(&self, actor: ActorId) {
        self.0.empty(actor);
    }
}

impl<M: Message> From<&ActorSlot<M>> for AnySlot {
    fn from(slot: &ActorSlot<M>) -> Self {
        Self(Arc::new(slot.clone()))
    }
}

impl fmt::Debug for AnySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnySlot")
    }
}

trait Resolve: Send + Sync {
    fn fill(&self, actor: &ActorCell) -> bool;
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
