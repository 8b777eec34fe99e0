//! The bare service that Nexus is measured against: a zbus service that does nothing, in a process of its own.

use std::{sync::Arc, time::Duration};

use nexus_dbus::{ROOT, SERVICE};
use serde::{Serialize, Serializer};
use tokio::sync::OnceCell;
use zbus::{Connection, Signature, Type, connection, fdo::ManagedObjects, interface};

use crate::Outcome;

/// The word that makes the bench's program this service.
pub(crate) const ROLE: &str = "serve";
/// Its bus name.
pub(crate) const NAME: &str = "org.workfort.NexusBench";
/// Its object.
pub(crate) const PATH: &str = "/org/workfort/NexusBench";
/// Its interface.
pub(crate) const INTERFACE: &str = "org.workfort.NexusBench";

/// It ends by itself when nobody ends it.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Serves until it is killed.
///
/// # Errors
/// When there is no bus.
pub(crate) async fn serve() -> Outcome<()> {
    let _connection = connection::Builder::session().serve_at(PATH, Bare::default()).name(NAME).build().await?;
    tokio::time::sleep(LIMIT).await;
    Ok(())
}

/// Does nothing, at the least cost.
#[derive(Default)]
struct Bare {
    objects: OnceCell<Objects>,
}

/// What Nexus answered once, to be sent again without anything being looked up.
#[derive(Clone)]
struct Objects(Arc<ManagedObjects>);

impl Type for Objects {
    const SIGNATURE: &'static Signature = ManagedObjects::SIGNATURE;
}

impl Serialize for Objects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[interface(name = "org.workfort.NexusBench", introspection_docs = false)]
impl Bare {
    /// The cost of a call.
    fn empty(&self) {}

    /// Takes Nexus' own answer to `GetManagedObjects`, once.
    async fn copy_objects(&self, #[zbus(connection)] connection: &Connection) -> zbus::fdo::Result<()> {
        let copy = async {
            let interface = Some("org.freedesktop.DBus.ObjectManager");
            let reply = connection.call_method(Some(SERVICE), ROOT, interface, "GetManagedObjects", &()).await?;
            reply.body().deserialize().map(|objects| Objects(Arc::new(objects)))
        };
        self.objects.get_or_try_init(|| copy).await?;
        Ok(())
    }

    /// The cost of an answer like that.
    fn objects(&self) -> zbus::fdo::Result<Objects> {
        self.objects.get().cloned().ok_or_else(|| zbus::fdo::Error::Failed("there is no copy".to_owned()))
    }
}
