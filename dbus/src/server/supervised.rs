//! `org.workfort.Nexus1.Supervised`.

use nexus_actors::supervisor::ChildStatus;
use nexus_model::microseconds;
use zbus::{Connection, OwnedObjectPath, interface, message::Header};

use super::{
    call::Call,
    options::{Dict, nothing},
    path,
    picture::Picture,
    served::Served,
};
use crate::Error;

/// An actor under supervision.
#[derive(Debug)]
pub(super) struct Supervised {
    engine: Served,
    place: String,
    picture: Picture<ChildStatus>,
}

impl Supervised {
    pub(super) const fn new(engine: Served, place: String, picture: Picture<ChildStatus>) -> Self {
        Self { engine, place, picture }
    }
}

#[interface(name = "org.workfort.Nexus1.Supervised", introspection_docs = false)]
impl Supervised {
    async fn restart_actor(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let restart = |_, ()| async move { self.engine.restart_actor(&self.place).await };
        Call::new(&self.engine, bus, &header).about_actor(&self.place).change(options, nothing, restart).await
    }

    async fn reset_failed(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let reset = |origin, ()| async move { self.engine.reset_failed(&origin, &self.place).await };
        Call::new(&self.engine, bus, &header).about_actor(&self.place).change(Dict::new(), nothing, reset).await
    }

    #[zbus(property)]
    fn health(&self) -> String {
        self.picture.get().health.to_string()
    }

    #[zbus(property)]
    fn generation(&self) -> u64 {
        self.picture.get().generation
    }

    #[zbus(property)]
    fn restart_count(&self) -> u64 {
        self.picture.get().restart_count
    }

    #[zbus(property)]
    fn failure_count(&self) -> u64 {
        self.picture.get().failure_count
    }

    #[zbus(property)]
    fn fault_count(&self) -> u64 {
        self.picture.get().fault_count
    }

    #[zbus(property)]
    fn intensity(&self) -> u32 {
        self.picture.get().intensity.map_or(0, |intensity| intensity.max)
    }

    #[zbus(property, name = "WindowUSec")]
    fn window_usec(&self) -> u64 {
        self.picture.get().intensity.map_or(0, |intensity| microseconds(intensity.window))
    }

    #[zbus(property)]
    fn last_fault_at(&self) -> u64 {
        self.picture.get().last_fault_at.0
    }

    #[zbus(property)]
    fn last_fault_reason(&self) -> String {
        self.picture.get().last_fault_reason.clone()
    }

    #[zbus(property)]
    fn next_restart_at(&self) -> u64 {
        self.picture.get().next_restart_at.0
    }

    #[zbus(property)]
    fn started_at(&self) -> u64 {
        self.picture.get().started_at.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn supervisor(&self) -> OwnedObjectPath {
        self.picture.get().supervisor.as_deref().map_or_else(path::none, path::actor)
    }
}
