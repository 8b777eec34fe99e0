//! A kernel or an initrd.

use zbus::{DeserializeDict, OwnedObjectPath, Type};

use super::{Options, Row};
use crate::Error;

/// A kernel or an initrd.
#[zbus::proxy(interface = "org.workfort.Nexus1.Asset", default_service = "org.workfort.Nexus1")]
pub trait Asset {
    /// Makes it the one that is taken where none of its kind is named.
    fn make_default(&self) -> Result<(), Error>;
    /// Hashes it again and compares with Digest.
    fn verify(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Removes it. Legal while `used_by` is empty.
    fn remove(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Never used twice.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> Result<String, Error>;
    /// kernel or initrd. An open list.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> Result<String, Error>;
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> Result<String, Error>;
    /// Its version, as its maker writes it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> Result<String, Error>;
    /// The processor that it is for, as uname -m prints it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn architecture(&self) -> Result<String, Error>;
    /// SHA-256, in hexadecimal.
    #[zbus(property(emits_changed_signal = "const"))]
    fn digest(&self) -> Result<String, Error>;
    /// Where it came from.
    #[zbus(property(emits_changed_signal = "const"))]
    fn source(&self) -> Result<String, Error>;
    /// Where it is.
    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> Result<String, Error>;
    /// What it was checked against when it came: none or digest. An open list.
    #[zbus(property(emits_changed_signal = "const"))]
    fn verification(&self) -> Result<String, Error>;
    /// Its size.
    #[zbus(property(emits_changed_signal = "const"))]
    fn size_bytes(&self) -> Result<u64, Error>;
    /// Whether it is taken where none of its kind is named.
    #[zbus(property)]
    fn default(&self) -> Result<bool, Error>;
    /// The VMs that name it.
    #[zbus(property)]
    fn used_by(&self) -> Result<Vec<OwnedObjectPath>, Error>;
    /// When it was imported, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> Result<u64, Error>;
}

/// All properties of `org.workfort.Nexus1.Asset` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct AssetProperties {
    /// Never used twice.
    pub id: String,
    /// kernel or initrd. An open list.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version, as its maker writes it.
    pub version: String,
    /// The processor that it is for, as uname -m prints it.
    pub architecture: String,
    /// SHA-256, in hexadecimal.
    pub digest: String,
    /// Where it came from.
    pub source: String,
    /// Where it is.
    pub path: String,
    /// What it was checked against when it came: none or digest. An open list.
    pub verification: String,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it is taken where none of its kind is named.
    pub default: bool,
    /// The VMs that name it.
    pub used_by: Vec<OwnedObjectPath>,
    /// When it was imported, in microseconds since the epoch.
    pub created_at: u64,
}

impl Row for AssetProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Asset";
}
