//! A copy-on-write disk.

use std::collections::HashMap;

use zbus::{DeserializeDict, OwnedObjectPath, Type};

use super::{Options, Row};
use crate::Error;

/// A copy-on-write disk.
#[zbus::proxy(interface = "org.workfort.Nexus1.Workspace", default_service = "org.workfort.Nexus1")]
pub trait Workspace {
    /// Removes it. Legal while no VM has it.
    fn remove(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// `apparent-bytes`, `allocated-bytes` and `exclusive-bytes`.
    fn get_usage(&self) -> Result<HashMap<String, u64>, Error>;
    /// Never used twice.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> Result<String, Error>;
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> Result<String, Error>;
    /// How it is kept: btrfs, reflink or copy.
    #[zbus(property(emits_changed_signal = "const"))]
    fn backend(&self) -> Result<String, Error>;
    /// Its folder.
    #[zbus(property(emits_changed_signal = "const"))]
    fn path(&self) -> Result<String, Error>;
    /// Size of its disk as the guest sees it.
    #[zbus(property)]
    fn size_bytes(&self) -> Result<u64, Error>;
    /// Whether the guest may only read.
    #[zbus(property)]
    fn read_only(&self) -> Result<bool, Error>;
    /// Whether it is its VM's root disk.
    #[zbus(property)]
    fn root_device(&self) -> Result<bool, Error>;
    /// The image that it was made from, or / when that is gone or there was none.
    #[zbus(property)]
    fn base(&self) -> Result<OwnedObjectPath, Error>;
    /// The VM that has it, or /.
    #[zbus(property)]
    fn vm(&self) -> Result<OwnedObjectPath, Error>;
    /// creating, ready, attached, missing, failed or removing. An open list.
    #[zbus(property)]
    fn state(&self) -> Result<String, Error>;
    /// Why it is failed or missing, in one sentence; empty when it is neither.
    #[zbus(property)]
    fn failure_reason(&self) -> Result<String, Error>;
    /// When it was created, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> Result<u64, Error>;
    /// When a VM got it last, or 0.
    #[zbus(property)]
    fn attached_at(&self) -> Result<u64, Error>;
    /// When a VM lost it last, or 0.
    #[zbus(property)]
    fn detached_at(&self) -> Result<u64, Error>;
}

/// All properties of `org.workfort.Nexus1.Workspace` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct WorkspaceProperties {
    /// Never used twice.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How it is kept: btrfs, reflink or copy.
    pub backend: String,
    /// Its folder.
    pub path: String,
    /// Size of its disk as the guest sees it.
    pub size_bytes: u64,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// Whether it is its VM's root disk.
    pub root_device: bool,
    /// The image that it was made from, or / when that is gone or there was none.
    pub base: OwnedObjectPath,
    /// The VM that has it, or /.
    pub vm: OwnedObjectPath,
    /// creating, ready, attached, missing, failed or removing. An open list.
    pub state: String,
    /// Why it is failed or missing, in one sentence; empty when it is neither.
    pub failure_reason: String,
    /// When it was created, in microseconds since the epoch.
    pub created_at: u64,
    /// When a VM got it last, or 0.
    pub attached_at: u64,
    /// When a VM lost it last, or 0.
    pub detached_at: u64,
}

impl Row for WorkspaceProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Workspace";
}
