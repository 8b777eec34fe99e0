//! `org.workfort.Nexus1.Connection`.

use nexus_actors::snapshot::ConnectionSnapshot;
use zbus::{OwnedObjectPath, interface};

use super::{path, picture::Picture, text};

/// A stream between host and guest.
#[derive(Debug)]
pub(super) struct Connection {
    picture: Picture<ConnectionSnapshot>,
}

impl Connection {
    pub(super) const fn new(picture: Picture<ConnectionSnapshot>) -> Self {
        Self { picture }
    }
}

#[interface(name = "org.workfort.Nexus1.Connection", introspection_docs = false)]
impl Connection {
    #[zbus(property(emits_changed_signal = "const"))]
    fn vm(&self) -> OwnedObjectPath {
        path::vm(&self.picture.get().vm)
    }

    #[zbus(property(emits_changed_signal = "const"))]
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
}
