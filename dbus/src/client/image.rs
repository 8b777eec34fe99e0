//! A master image.

use zbus::{DeserializeDict, OwnedObjectPath, Type};

use super::{Options, Row};
use crate::Error;

/// A master image.
#[zbus::proxy(interface = "org.workfort.Nexus1.Image", default_service = "org.workfort.Nexus1")]
pub trait Image {
    /// Hashes its disk again and compares with Digest.
    fn verify(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Removes it. Legal while no workspace was made from it.
    fn remove(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Never used twice.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> Result<String, Error>;
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> Result<String, Error>;
    /// SHA-256 of its disk, in hexadecimal.
    #[zbus(property(emits_changed_signal = "const"))]
    fn digest(&self) -> Result<String, Error>;
    /// Its folder.
    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> Result<String, Error>;
    /// Size of its disk.
    #[zbus(property(emits_changed_signal = "const"))]
    fn size_bytes(&self) -> Result<u64, Error>;
    /// Where it came from.
    #[zbus(property(emits_changed_signal = "const"))]
    fn origin(&self) -> Result<String, Error>;
    /// ID of its os-release(5).
    #[zbus(property(emits_changed_signal = "const"))]
    fn os_name(&self) -> Result<String, Error>;
    /// VERSION_ID of its os-release(5).
    #[zbus(property(emits_changed_signal = "const"))]
    fn os_version(&self) -> Result<String, Error>;
    /// The workspaces that were made from it.
    #[zbus(property)]
    fn used_by(&self) -> Result<Vec<OwnedObjectPath>, Error>;
    /// When it was imported, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> Result<u64, Error>;
}

/// All properties of `org.workfort.Nexus1.Image` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct ImageProperties {
    /// Never used twice.
    pub id: String,
    /// Its name.
    pub name: String,
    /// SHA-256 of its disk, in hexadecimal.
    pub digest: String,
    /// Its folder.
    pub path: String,
    /// Size of its disk.
    pub size_bytes: u64,
    /// Where it came from.
    pub origin: String,
    /// ID of its os-release(5).
    pub os_name: String,
    /// VERSION_ID of its os-release(5).
    pub os_version: String,
    /// The workspaces that were made from it.
    pub used_by: Vec<OwnedObjectPath>,
    /// When it was imported, in microseconds since the epoch.
    pub created_at: u64,
}

impl Row for ImageProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Image";
}
