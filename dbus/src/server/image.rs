//! `org.workfort.Nexus1.Image`.

use nexus_actors::snapshot::{ImageSnapshot, ObjectRef};
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

/// A master image.
#[derive(Debug)]
pub(super) struct Image {
    engine: Served,
    name: ArtifactName,
    picture: Picture<ImageSnapshot>,
}

impl Image {
    pub(super) const fn new(engine: Served, name: ArtifactName, picture: Picture<ImageSnapshot>) -> Self {
        Self { engine, name, picture }
    }

    fn call<'a>(&'a self, bus: &'a Connection, header: &Header<'_>) -> Call<'a> {
        Call::new(&self.engine, bus, header).about(ObjectRef::Image(self.name.clone()))
    }
}

#[interface(name = "org.workfort.Nexus1.Image", introspection_docs = false)]
impl Image {
    #[zbus(out_args("job"))]
    async fn verify(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let verify = |origin, ()| async move { self.engine.verify_image(&origin, &self.name).await };
        self.call(bus, &header).job(options, nothing, verify).await
    }

    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let remove = |origin, ()| async move { self.engine.remove_image(&origin, &self.name).await };
        self.call(bus, &header).job(options, nothing, remove).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.picture.get().id.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn digest(&self) -> String {
        self.picture.get().digest.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> String {
        text(Some(&self.picture.get().path))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn size_bytes(&self) -> u64 {
        self.picture.get().size_bytes
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn origin(&self) -> String {
        self.picture.get().origin.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn os_name(&self) -> String {
        self.picture.get().os_name.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn os_version(&self) -> String {
        self.picture.get().os_version.clone()
    }

    #[zbus(property)]
    fn used_by(&self) -> Vec<OwnedObjectPath> {
        self.picture.get().used_by.iter().map(path::workspace).collect()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        self.picture.get().created_at.0
    }
}
