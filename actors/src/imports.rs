//! What is being imported: its files and rows look like what a daemon that ended left behind, and are not.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nexus_model::Id;

/// The ids of what is being imported. They outlive the incarnations of the actors that will own it. Clones are the same
/// list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Imports(Arc<Mutex<BTreeSet<Id>>>);

/// An import under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Import {
    imports: Imports,
    id: Id,
}

impl Imports {
    /// Begins an import.
    pub(crate) fn begin(&self, id: Id) -> Import {
        self.lock().insert(id);
        Import { imports: self.clone(), id }
    }

    /// Whether it is under way.
    pub(crate) fn contains(&self, id: Id) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Id>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.imports.lock().remove(&self.id);
    }
}
