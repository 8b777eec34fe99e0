//! `org.workfort.Nexus1.Asset`.

use nexus_actors::snapshot::{AssetSnapshot, ObjectRef};
use nexus_model::ArtifactName;
use zbus::{Connection, OwnedObjectPath, interface, message::Header};

use super::{
    call::Call,
    options::{Dict, nothing},
    path,
    picture::Picture,
    served::Served,
    text,
};
use crate::Error;

/// A kernel or an initrd.
#[derive(Debug)]
pub(super) struct Asset {
    engine: Served,
    name: ArtifactName,
    picture: Picture<AssetSnapshot>,
}

impl Asset {
    pub(super) const fn new(engine: Served, name: ArtifactName, picture: Picture<AssetSnapshot>) -> Self {
        Self { engine, name, picture }
    }

    fn call<'a>(&'a self, bus: &'a Connection, header: &Header<'_>) -> Call<'a> {
        Call::new(&self.engine, bus, header).about(ObjectRef::Asset(self.name.clone()))
    }
}

#[interface(name = "org.workfort.Nexus1.Asset", introspection_docs = false)]
impl Asset {
    async fn make_default(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let make = |_, ()| async move { self.engine.make_default_asset(&self.name).await };
        self.call(bus, &header).change(Dict::new(), nothing, make).await
    }

    #[zbus(out_args("job"))]
    async fn verify(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let verify = |origin, ()| async move { self.engine.verify_asset(&origin, &self.name).await };
        self.call(bus, &header).job(options, nothing, verify).await
    }

    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let remove = |origin, ()| async move { self.engine.remove_asset(&origin, &self.name).await };
        self.call(bus, &header).job(options, nothing, remove).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.picture.get().id.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> String {
        self.picture.get().kind.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.picture.get().version.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn architecture(&self) -> String {
        self.picture.get().architecture.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn digest(&self) -> String {
        self.picture.get().digest.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn source(&self) -> String {
        self.picture.get().source.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> String {
        text(Some(&self.picture.get().path))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn verification(&self) -> String {
        self.picture.get().verification.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn size_bytes(&self) -> u64 {
        self.picture.get().size_bytes
    }

    #[zbus(property)]
    fn default(&self) -> bool {
        self.picture.get().default
    }

    #[zbus(property)]
    fn used_by(&self) -> Vec<OwnedObjectPath> {
        self.picture.get().used_by.iter().map(path::vm).collect()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        self.picture.get().created_at.0
    }
}
