//! One thing at a time for each unit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Who works on a unit. A start that was dropped is undone by a task of its own; until that is over, whatever else is asked
/// of the same unit waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Weak<AsyncMutex<()>>>>>);

impl Turns {
    /// Waits for its turn, which lasts until the guard is dropped.
    pub(super) async fn take(&self, unit: &str) -> OwnedMutexGuard<()> {
        let turn = {
            // Whoever panicked with it held left it whole: it is changed by single calls.
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(unit).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(AsyncMutex::new(()));
                    turns.insert(unit.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}
