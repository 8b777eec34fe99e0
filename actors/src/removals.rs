//! What is being removed: one removal of an object at a time, and nothing else meanwhile.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nexus_model::ErrorKind;

use crate::{Error, snapshot::ObjectRef};

/// Every object that is being removed. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removals(Arc<Mutex<BTreeSet<ObjectRef>>>);

/// A removal under way: until it is dropped there is no other of the same object.
#[derive(Debug)]
pub(crate) struct Removal {
    removals: Removals,
    object: ObjectRef,
}

impl Removals {
    /// Begins the removal of an object.
    ///
    /// # Errors
    /// `Busy` when it is being removed already.
    pub(crate) fn begin(&self, object: ObjectRef) -> Result<Removal, Error> {
        if !self.lock().insert(object.clone()) {
            return Err(busy(&object));
        }
        Ok(Removal { removals: self.clone(), object })
    }

    /// Refuses what would come in the way of a removal.
    ///
    /// # Errors
    /// `Busy` while the object is being removed.
    pub(crate) fn check(&self, object: &ObjectRef) -> Result<(), Error> {
        if self.lock().contains(object) {
            return Err(busy(object));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ObjectRef>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy(object: &ObjectRef) -> Error {
    let (noun, name) = object.noun_and_name();
    Error::new(ErrorKind::Busy, format!("{noun} `{name}` is being removed: wait until it is gone"))
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.removals.lock().remove(&self.object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_removal_of_an_object_until_it_is_dropped() {
        let removals = Removals::default();
        let object = ObjectRef::Vm("web".parse().unwrap_or_else(|error| panic!("{error}")));
        let first = removals.begin(object.clone());
        assert!(first.is_ok());
        assert_eq!(removals.begin(object.clone()).map(drop).map_err(|error| error.kind()), Err(ErrorKind::Busy));
        drop(first);
        assert!(removals.begin(object).is_ok());
    }
}
