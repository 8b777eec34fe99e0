//! What outlives the incarnations of an actor: one context for every VM and workspace, by name.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use nexus_model::Name;

/// Contexts by name. A context is there from before its actor is started until after it is gone.
pub(crate) struct Registry<T>(RwLock<BTreeMap<Name, Arc<T>>>);

impl<T> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    pub(crate) fn get(&self, name: &Name) -> Option<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The context of `name`, made by `make` if there is none.
    pub(crate) fn get_or_insert(&self, name: &Name, make: impl FnOnce() -> T) -> Arc<T> {
        let mut contexts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        contexts.entry(name.clone()).or_insert_with(|| Arc::new(make())).clone()
    }

    /// Takes a free name for something new. None while something has it, be it on its way out: what is new must not meet
    /// the actor of what was there before.
    pub(crate) fn claim(&self, name: &Name, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        match self.0.write().unwrap_or_else(PoisonError::into_inner).entry(name.clone()) {
            Entry::Vacant(free) => Some(free.insert(Arc::new(make())).clone()),
            Entry::Occupied(_) => None,
        }
    }

    /// Makes a name free, if it is still this one's.
    pub(crate) fn release(&self, name: &Name, context: &Arc<T>) {
        let mut contexts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if contexts.get(name).is_some_and(|current| Arc::ptr_eq(current, context)) {
            contexts.remove(name);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl<T> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.read().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}
