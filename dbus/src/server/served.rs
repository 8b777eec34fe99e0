//! What every interface has of the daemon.

use std::ops::Deref;

use nexus_actors::Engine;

use super::callers::Callers;

/// The engine, as it is served on one connection, and who calls there.
#[derive(Clone, Debug)]
pub(super) struct Served {
    engine: Engine,
    pub(super) callers: Callers,
}

impl Served {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, callers: Callers::default() }
    }
}

impl Deref for Served {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}
