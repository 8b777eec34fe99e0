//! Who calls: the process behind a bus name, for the audit.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nexus_actors::Caller;
use tracing::debug;
use zbus::{
    Connection,
    fdo::DBusProxy,
    names::{BusName, OwnedUniqueName, UniqueName},
};

/// So many callers are remembered, the newest ones.
const REMEMBERED: usize = 64;
/// For this long the bus is asked who somebody is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the callers on one connection: asked of the bus at the first change that one wants, not at each. A bus
/// never gives a unique name to a second one, so nothing of this gets old, and nobody has to listen for who leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers(Arc<Mutex<VecDeque<(OwnedUniqueName, Caller)>>>);

impl Callers {
    /// Who that is. Nothing is known of a peer, nor of somebody who has left the bus before it was asked.
    pub(super) async fn who(&self, connection: &Connection, sender: Option<&UniqueName<'_>>) -> Caller {
        let Some(sender) = sender else { return Caller::default() };
        if let Some((_, caller)) = self.lock().iter().find(|(known, _)| known == sender) {
            return caller.clone();
        }
        let caller = match tokio::time::timeout(PATIENCE, process(connection, sender)).await {
            Ok(Ok(Some(process))) => Caller::of(process),
            Ok(Ok(None)) => Caller::default(),
            Ok(Err(error)) => {
                debug!(%error, "the bus does not say who {sender} is");
                return Caller::default();
            }
            Err(_) => {
                debug!("the bus does not say in time who {sender} is");
                return Caller::default();
            }
        };
        let mut known = self.lock();
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((sender.to_owned().into(), caller.clone()));
        caller
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(OwnedUniqueName, Caller)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn process(connection: &Connection, sender: &UniqueName<'_>) -> zbus::Result<Option<u32>> {
    let name = BusName::from(sender.clone());
    let credentials = DBusProxy::new(connection).await?.get_connection_credentials(name).await?;
    Ok(credentials.process_id())
}
