//! `org.workfort.Nexus1.Workspace`.

use std::collections::HashMap;

use nexus_actors::snapshot::{ObjectRef, WorkspaceSnapshot};
use nexus_model::Name;
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

/// A copy-on-write disk.
#[derive(Debug)]
pub(super) struct Workspace {
    engine: Served,
    name: Name,
    picture: Picture<WorkspaceSnapshot>,
}

impl Workspace {
    pub(super) const fn new(engine: Served, name: Name, picture: Picture<WorkspaceSnapshot>) -> Self {
        Self { engine, name, picture }
    }

    fn call<'a>(&'a self, bus: &'a Connection, header: &Header<'_>) -> Call<'a> {
        Call::new(&self.engine, bus, header).about(ObjectRef::Workspace(self.name.clone()))
    }
}

#[interface(name = "org.workfort.Nexus1.Workspace", introspection_docs = false)]
impl Workspace {
    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let remove = |origin, ()| async move { self.engine.remove_workspace(&origin, &self.name).await };
        self.call(bus, &header).job(options, nothing, remove).await
    }

    #[zbus(out_args("usage"))]
    async fn get_usage(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<HashMap<String, u64>, Error> {
        let usage = self.call(bus, &header).query(self.engine.workspace_usage(&self.name)).await?;
        Ok(HashMap::from([
            ("apparent-bytes".to_owned(), usage.apparent_bytes),
            ("allocated-bytes".to_owned(), usage.allocated_bytes),
            ("exclusive-bytes".to_owned(), usage.exclusive_bytes),
        ]))
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
    fn backend(&self) -> String {
        self.picture.get().backend.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> String {
        text(Some(&self.picture.get().path))
    }

    #[zbus(property)]
    fn size_bytes(&self) -> u64 {
        self.picture.get().size_bytes
    }

    #[zbus(property)]
    fn read_only(&self) -> bool {
        self.picture.get().read_only
    }

    #[zbus(property)]
    fn root_device(&self) -> bool {
        self.picture.get().root_device
    }

    #[zbus(property)]
    fn base(&self) -> OwnedObjectPath {
        self.picture.get().base.as_ref().map_or_else(path::none, path::image)
    }

    #[zbus(property)]
    fn vm(&self) -> OwnedObjectPath {
        self.picture.get().vm.as_ref().map_or_else(path::none, path::vm)
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.picture.get().state.to_string()
    }

    #[zbus(property)]
    fn failure_reason(&self) -> String {
        self.picture.get().failure.as_ref().map(|(_, text)| text.clone()).unwrap_or_default()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        self.picture.get().created_at.0
    }

    #[zbus(property)]
    fn attached_at(&self) -> u64 {
        self.picture.get().attached_at.0
    }

    #[zbus(property)]
    fn detached_at(&self) -> u64 {
        self.picture.get().detached_at.0
    }
}
