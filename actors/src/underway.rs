//! What is under way, by key, and is known until whoever does it drops its hold.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nexus_model::ErrorKind;

use crate::{Error, snapshot::ObjectRef};

/// The keys of what is under way. They outlive the incarnations of actors. Clones are the same list.
#[derive(Clone, Debug)]
pub(crate) struct Underway<K: Ord>(Arc<Mutex<BTreeSet<K>>>);

/// Something under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold<K: Ord> {
    all: Underway<K>,
    key: K,
}

impl<K: Ord> Default for Underway<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone> Underway<K> {
    /// Begins something; none when it is under way already.
    pub(crate) fn begin(&self, key: K) -> Option<Hold<K>> {
        self.lock().insert(key.clone()).then(|| Hold { all: self.clone(), key })
    }
}

impl<K: Ord> Underway<K> {
    /// Whether it is under way.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.lock().contains(key)
    }

    /// All that is under way.
    pub(crate) fn all(&self) -> BTreeSet<K>
    where
        K: Clone,
    {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Drop for Hold<K> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}

/// The removals under way: there is one of an object at a time, and nothing else is done to it meanwhile.
impl Underway<ObjectRef> {
    /// Begins the removal of an object.
    ///
    /// # Errors
    /// `Busy` when it is being removed already.
    pub(crate) fn begin_removal(&self, object: ObjectRef) -> Result<Hold<ObjectRef>, Error> {
        self.begin(object.clone()).ok_or_else(|| busy(&object))
    }

    /// Refuses what would come in the way of a removal.
    ///
    /// # Errors
    /// `Busy` while the object is being removed.
    pub(crate) fn check(&self, object: &ObjectRef) -> Result<(), Error> {
        if self.contains(object) { Err(busy(object)) } else { Ok(()) }
    }
}

fn busy(object: &ObjectRef) -> Error {
    let (noun, name) = object.noun_and_name();
    Error::new(ErrorKind::Busy, format!("{noun} `{name}` is being removed: wait until it is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_removal_of_an_object_until_it_is_dropped() {
        let removals = Underway::default();
        let object = ObjectRef::Vm("web".parse().unwrap_or_else(|error| panic!("{error}")));
        let first = removals.begin_removal(object.clone());
        assert!(first.is_ok());
        assert_eq!(
            removals.begin_removal(object.clone()).map(drop).map_err(|error| error.kind()),
            Err(ErrorKind::Busy)
        );
        drop(first);
        assert!(removals.begin_removal(object).is_ok());
    }
}
