//! What the bus was shown last.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use tokio::sync::watch;

use crate::server::picture::Picture;

/// The picture of each object that the bus was shown last, which the objects' getters read.
#[derive(Debug)]
pub(super) struct Seen<K, T>(HashMap<K, watch::Sender<Arc<T>>>);

impl<K: Hash + Eq, T> Seen<K, T> {
    /// The picture of one object.
    pub(super) fn get(&self, key: &K) -> Option<Arc<T>> {
        self.0.get(key).map(|picture| picture.borrow().clone())
    }

    /// What the getters of one object read; none when it is not there.
    pub(super) fn follow(&self, key: &K) -> Option<Picture<T>> {
        self.0.get(key).map(|picture| Picture::Live(picture.subscribe()))
    }

    /// A new object, and what its getters read.
    pub(super) fn add(&mut self, key: K, picture: Arc<T>) -> Picture<T> {
        let (sender, receiver) = watch::channel(picture);
        self.0.insert(key, sender);
        Picture::Live(receiver)
    }

    /// From now on its getters read this one. The one before; none when it is not there.
    pub(super) fn change(&self, key: &K, next: Arc<T>) -> Option<Arc<T>> {
        self.0.get(key).map(|picture| picture.send_replace(next))
    }

    /// The last one of an object that goes.
    pub(super) fn remove(&mut self, key: &K) -> Option<Arc<T>> {
        self.0.remove(key).map(|picture| picture.borrow().clone())
    }
}

impl<K, T> Default for Seen<K, T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}
