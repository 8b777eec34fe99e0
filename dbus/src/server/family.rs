//! Which actor supervises which: what `Supervisor.Children` reads.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

/// Each child's place, by the order of their start.
type Children = BTreeSet<(u64, String)>;

/// The places of the children below each supervisor's place. Kept by the projector, since asking every actor's status
/// for its supervisor would take the square of their number to show them all.
#[derive(Clone, Debug, Default)]
pub(super) struct Family(Arc<RwLock<HashMap<String, Children>>>);

impl Family {
    pub(super) fn children(&self, supervisor: &str) -> Vec<String> {
        let family = self.0.read().unwrap_or_else(PoisonError::into_inner);
        family
            .get(supervisor)
            .map(|children| children.iter().map(|(_, child)| child.clone()).collect())
            .unwrap_or_default()
    }

    pub(super) fn add(&self, supervisor: &str, order: u64, child: &str) {
        let mut family = self.0.write().unwrap_or_else(PoisonError::into_inner);
        family.entry(supervisor.to_owned()).or_default().insert((order, child.to_owned()));
    }

    pub(super) fn remove(&self, supervisor: &str, order: u64, child: &str) {
        let mut family = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(children) = family.get_mut(supervisor) {
            children.remove(&(order, child.to_owned()));
            if children.is_empty() {
                family.remove(supervisor);
            }
        }
    }
}
