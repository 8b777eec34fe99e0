//! All properties of one interface in one call.

use zbus::{Connection, ObjectPath, Type};

use crate::{Error, SERVICE};

/// All properties of an interface at one instant, as a struct.
pub trait Row: serde::de::DeserializeOwned + Type {
    /// The interface.
    const INTERFACE: &str;

    /// Reads them from the object at `path`.
    ///
    /// # Errors
    /// When there is no such object, it has no such interface, or the bus fails.
    fn read(connection: &Connection, path: &ObjectPath<'_>) -> impl Future<Output = Result<Self, Error>> + Send {
        async move {
            let interface = Some("org.freedesktop.DBus.Properties");
            let reply = connection.call_method(Some(SERVICE), path, interface, "GetAll", &Self::INTERFACE).await?;
            Ok(reply.body().deserialize()?)
        }
    }
}
