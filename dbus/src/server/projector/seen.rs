//! The picture of an object that the bus was shown last.

use std::sync::Arc;

use tokio::sync::watch;

/// The last picture shown, and whether the queue still has older ones.
///
/// A new object is shown with its newest picture, which may be newer than the step of the queue that told of the
/// object. Then the steps up to that picture are not shown: the bus would go back in time.
#[derive(Debug)]
pub(super) struct Seen<T> {
    picture: Arc<T>,
    ahead: bool,
}

impl<T> Seen<T> {
    /// What a new object is shown with.
    pub(super) fn first(receiver: &mut watch::Receiver<Arc<T>>) -> Self {
        // A picture that came after the receiver was made is on the queue, too.
        let newest = receiver.borrow_and_update();
        Self { ahead: newest.has_changed(), picture: newest.clone() }
    }

    /// The pictures before and after a step of the queue, if it is one to show.
    pub(super) fn step(&mut self, next: Arc<T>) -> Option<(Arc<T>, Arc<T>)> {
        if self.ahead {
            self.ahead = !Arc::ptr_eq(&self.picture, &next);
            return None;
        }
        let before = std::mem::replace(&mut self.picture, next.clone());
        Some((before, next))
    }

    pub(super) const fn picture(&self) -> &Arc<T> {
        &self.picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_object_never_goes_back_in_time() {
        let (sender, mut receiver) = watch::channel(Arc::new(1));
        let (two, three, four) = (Arc::new(2), Arc::new(3), Arc::new(4));
        sender.send_replace(two.clone());
        sender.send_replace(three.clone());
        let mut seen = Seen::first(&mut receiver);
        assert_eq!(**seen.picture(), 3);
        assert_eq!(seen.step(two), None);
        assert_eq!(seen.step(three.clone()), None);
        assert_eq!(seen.step(four.clone()), Some((three, four)));
    }

    #[test]
    fn an_object_that_has_not_changed_shows_the_next_step() {
        let (sender, receiver) = watch::channel(Arc::new(1));
        let mut late = sender.subscribe();
        drop(receiver);
        let mut seen = Seen::first(&mut late);
        assert_eq!(seen.step(Arc::new(2)), Some((Arc::new(1), Arc::new(2))));
    }
}
