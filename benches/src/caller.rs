//! A client that calls while other things happen.

use std::{convert::Infallible, time::Duration};

use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath};

use crate::{
    Outcome,
    calls::{call_bare, get_state, timed},
    samples::Samples,
};

/// What it notices.
#[derive(Default)]
pub(crate) struct Caller {
    /// `Get` of a VM's `State`.
    pub(crate) get: Samples,
    /// An empty method of the bare service.
    pub(crate) empty: Samples,
}

impl Caller {
    /// Calls one and the other in turns, until it is dropped.
    ///
    /// # Errors
    /// When a call fails.
    pub(crate) async fn call(&mut self, client: &Connection, vm: &OwnedObjectPath) -> Outcome<Infallible> {
        loop {
            self.get.push(timed(get_state(client, vm)).await?);
            self.empty.push(timed(call_bare(client, "Empty")).await?);
        }
    }

    /// The same for a while.
    ///
    /// # Errors
    /// When a call fails.
    pub(crate) async fn call_for(&mut self, time: Duration, client: &Connection, vm: &OwnedObjectPath) -> Outcome<()> {
        match timeout(time, self.call(client, vm)).await {
            Ok(outcome) => match outcome? {},
            Err(_) => Ok(()),
        }
    }
}
