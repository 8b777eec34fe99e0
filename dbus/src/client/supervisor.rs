//! What restarts actors.

use zbus::{DeserializeDict, OwnedObjectPath, Type};

use super::Row;
use crate::Error;

/// What restarts actors.
#[zbus::proxy(interface = "org.workfort.Nexus1.Supervisor", default_service = "org.workfort.Nexus1")]
pub trait Supervisor {
    /// Who is restarted when a child fails: one-for-one, or rest-for-one for it and those started after it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn strategy(&self) -> Result<String, Error>;
    /// What it supervises, in the order of their start.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    fn children(&self) -> Result<Vec<OwnedObjectPath>, Error>;
}

/// All properties of `org.workfort.Nexus1.Supervisor` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct SupervisorProperties {
    /// Who is restarted when a child fails: one-for-one, or rest-for-one for it and those started after it.
    pub strategy: String,
    /// What it supervises, in the order of their start.
    pub children: Vec<OwnedObjectPath>,
}

impl Row for SupervisorProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Supervisor";
}
