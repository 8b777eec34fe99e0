//! `org.workfort.Nexus1.Supervisor`.

use nexus_actors::supervisor::ChildStatus;
use zbus::{OwnedObjectPath, interface};

use super::{family::Family, path, picture::Picture};

/// What restarts actors.
#[derive(Debug)]
pub(super) struct Supervisor {
    place: String,
    picture: Picture<ChildStatus>,
    family: Family,
}

impl Supervisor {
    pub(super) const fn new(place: String, picture: Picture<ChildStatus>, family: Family) -> Self {
        Self { place, picture, family }
    }
}

#[interface(name = "org.workfort.Nexus1.Supervisor", introspection_docs = false)]
impl Supervisor {
    #[zbus(property(emits_changed_signal = "const"))]
    fn strategy(&self) -> String {
        self.picture.get().strategy.map(|strategy| strategy.to_string()).unwrap_or_default()
    }

    #[zbus(property(emits_changed_signal = "invalidates"))]
    fn children(&self) -> Vec<OwnedObjectPath> {
        self.family.children(&self.place).iter().map(|child| path::actor(child)).collect()
    }
}
