//! `org.workfort.Nexus1.Connection`.

use std::collections::HashMap;

use nexus_actors::{Place, snapshot::ConnectionSnapshot};
use nexus_model::Name;
use zbus::{OwnedObjectPath, interface, message::Header};

use super::{
    call::Call,
    options::{Dict, nothing},
    path,
    picture::Picture,
    served::Served,
    text,
};
use crate::Error;

/// A stream between host and guest.
#[derive(Debug)]
pub(super) struct Connection {
    engine: Served,
    vm: Name,
    number: u32,
    picture: Picture<ConnectionSnapshot>,
}

impl Connection {
    pub(super) fn new(engine: Served, (vm, number): (Name, u32), picture: Picture<ConnectionSnapshot>) -> Self {
        Self { engine, vm, number, picture }
    }

    fn call<'a>(&'a self, bus: &'a zbus::Connection, header: &Header<'_>) -> Call<'a> {
        let place = Place::Connection(self.vm.clone(), self.number);
        Call::new(&self.engine, bus, header).about_actor(&place.to_string())
    }
}

#[interface(name = "org.workfort.Nexus1.Connection", introspection_docs = false)]
impl Connection {
    async fn close(
        &self,
        #[zbus(connection)] bus: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let close = |_, ()| async move { self.engine.close_connection(&self.vm, self.number).await };
        self.call(bus, &header).change(Dict::new(), nothing, close).await
    }

    #[zbus(out_args("statistics"))]
    async fn get_statistics(
        &self,
        #[zbus(connection)] bus: &zbus::Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<HashMap<String, u64>, Error> {
        let read = self.call(bus, &header).query(self.engine.connection_statistics(&self.vm, self.number)).await?;
        let bytes = [("bytes-in", read.bytes_in), ("bytes-out", read.bytes_out)];
        let more = [("frames-in", read.frames_in), ("frames-out", read.frames_out), ("reconnects", read.reconnects)];
        // A client's stream is of no frames, and of one piece.
        let more = more.into_iter().filter(|_| self.picture.get().is_kept());
        Ok(bytes.into_iter().chain(more).map(|(key, value)| (key.to_owned(), value)).collect())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn vm(&self) -> OwnedObjectPath {
        path::vm(&self.picture.get().vm)
    }

    #[zbus(property)]
    fn port(&self) -> u32 {
        self.picture.get().port
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> String {
        self.picture.get().kind.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn direction(&self) -> String {
        self.picture.get().direction.to_string()
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.picture.get().state.to_string()
    }

    #[zbus(property)]
    fn owner(&self) -> String {
        self.picture.get().owner.clone()
    }

    #[zbus(property)]
    fn host_path(&self) -> String {
        text(self.picture.get().host_path.as_deref())
    }

    #[zbus(property)]
    fn opened_at(&self) -> u64 {
        self.picture.get().opened_at.0
    }

    #[zbus(property)]
    fn failure_reason(&self) -> String {
        self.picture.get().failure.clone().unwrap_or_default()
    }
}
