//! All objects in one call.

use std::collections::HashMap;

use zbus::{Connection, DeserializeDict, OwnedObjectPath, Type};

use super::{
    AssetProperties, ConnectionProperties, GuestProperties, ImageProperties, JobProperties, SupervisedProperties,
    SupervisorProperties, VmProperties, WorkspaceProperties,
};
use crate::{Error, ROOT, SERVICE};

/// The interfaces that an object has.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sa{sv}}")]
pub struct Interfaces {
    /// A virtual machine.
    #[zbus(rename = "org.workfort.Nexus1.Vm")]
    pub vm: Option<VmProperties>,
    /// The inside of one whose agent is connected.
    #[zbus(rename = "org.workfort.Nexus1.Guest")]
    pub guest: Option<GuestProperties>,
    /// A stream between host and guest.
    #[zbus(rename = "org.workfort.Nexus1.Connection")]
    pub connection: Option<ConnectionProperties>,
    /// A copy-on-write disk.
    #[zbus(rename = "org.workfort.Nexus1.Workspace")]
    pub workspace: Option<WorkspaceProperties>,
    /// A master image.
    #[zbus(rename = "org.workfort.Nexus1.Image")]
    pub image: Option<ImageProperties>,
    /// A kernel or an initrd.
    #[zbus(rename = "org.workfort.Nexus1.Asset")]
    pub asset: Option<AssetProperties>,
    /// A long operation.
    #[zbus(rename = "org.workfort.Nexus1.Job")]
    pub job: Option<JobProperties>,
    /// Something with an actor of its own.
    #[zbus(rename = "org.workfort.Nexus1.Supervised")]
    pub supervised: Option<SupervisedProperties>,
    /// A supervisor.
    #[zbus(rename = "org.workfort.Nexus1.Supervisor")]
    pub supervisor: Option<SupervisorProperties>,
}

/// Every object below the root, with all its properties.
///
/// # Errors
/// When nobody has the bus name, or the bus fails.
pub async fn objects(connection: &Connection) -> Result<HashMap<OwnedObjectPath, Interfaces>, Error> {
    objects_of(connection, SERVICE).await
}

/// The same of the daemon that has this name on the bus. Its unique name is that of one run: once that is over, no other
/// one is started to answer.
///
/// # Errors
/// When nobody has the name, or the bus fails.
pub async fn objects_of(connection: &Connection, daemon: &str) -> Result<HashMap<OwnedObjectPath, Interfaces>, Error> {
    let interface = "org.freedesktop.DBus.ObjectManager";
    let reply = connection.call_method(Some(daemon), ROOT, Some(interface), "GetManagedObjects", &()).await?;
    Ok(reply.body().deserialize()?)
}
