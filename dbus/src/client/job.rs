//! A long operation.

use std::collections::HashMap;

use zbus::{DeserializeDict, OwnedObjectPath, OwnedVariant, Type};

use super::{Options, Row};
use crate::Error;

/// A long operation.
#[zbus::proxy(interface = "org.workfort.Nexus1.Job", default_service = "org.workfort.Nexus1")]
pub trait Job {
    /// Answers when the job has ended: with its result, or with its own error.
    fn wait(&self) -> Result<HashMap<String, OwnedVariant>, Error>;
    /// Asks the job to end. Returns when it was told, not when it has ended: Wait for that.
    fn cancel(&self, options: Options<'_>) -> Result<(), Error>;
    /// Its number, never used twice by one daemon.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> Result<u32, Error>;
    /// What it does: start-vm, import-image, … An open list.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> Result<String, Error>;
    /// What it does it to, as far as that is there.
    #[zbus(property)]
    fn objects(&self) -> Result<Vec<OwnedObjectPath>, Error>;
    /// queued, running, done, failed, cancelled or timeout. An open list.
    #[zbus(property)]
    fn state(&self) -> Result<String, Error>;
    /// What it is doing now, as one word.
    #[zbus(property)]
    fn stage(&self) -> Result<String, Error>;
    /// The share that is done, 0 to 1; -1 when unknown. At most 4 times a second.
    #[zbus(property)]
    fn progress(&self) -> Result<f64, Error>;
    /// Bytes done; 0 when bytes are not what it counts.
    #[zbus(property)]
    fn completed_bytes(&self) -> Result<u64, Error>;
    /// Bytes in all.
    #[zbus(property)]
    fn total_bytes(&self) -> Result<u64, Error>;
    /// Whether it can be cancelled.
    #[zbus(property)]
    fn cancellable(&self) -> Result<bool, Error>;
    /// Whether it is cancelled when its caller leaves the bus.
    #[zbus(property(emits_changed_signal = "const"))]
    fn bound(&self) -> Result<bool, Error>;
    /// The bus name of who asked for it; nexusd for what the daemon does by itself.
    #[zbus(property(emits_changed_signal = "const"))]
    fn sender(&self) -> Result<String, Error>;
    /// Why it failed: the name of the D-Bus error; empty otherwise.
    #[zbus(property)]
    fn error_name(&self) -> Result<String, Error>;
    /// One sentence that says what to do; empty otherwise.
    #[zbus(property)]
    fn error_message(&self) -> Result<String, Error>;
    /// What it gave, by kebab-case keys.
    #[zbus(property)]
    fn result(&self) -> Result<HashMap<String, OwnedVariant>, Error>;
    /// When it was asked for, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> Result<u64, Error>;
    /// When it ended, or 0.
    #[zbus(property)]
    fn finished_at(&self) -> Result<u64, Error>;
}

/// All properties of `org.workfort.Nexus1.Job` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct JobProperties {
    /// Its number, never used twice by one daemon.
    pub id: u32,
    /// What it does: start-vm, import-image, … An open list.
    pub kind: String,
    /// What it does it to, as far as that is there.
    pub objects: Vec<OwnedObjectPath>,
    /// queued, running, done, failed, cancelled or timeout. An open list.
    pub state: String,
    /// What it is doing now, as one word.
    pub stage: String,
    /// The share that is done, 0 to 1; -1 when unknown. At most 4 times a second.
    pub progress: f64,
    /// Bytes done; 0 when bytes are not what it counts.
    pub completed_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Whether it can be cancelled.
    pub cancellable: bool,
    /// Whether it is cancelled when its caller leaves the bus.
    pub bound: bool,
    /// The bus name of who asked for it; nexusd for what the daemon does by itself.
    pub sender: String,
    /// Why it failed: the name of the D-Bus error; empty otherwise.
    pub error_name: String,
    /// One sentence that says what to do; empty otherwise.
    pub error_message: String,
    /// What it gave, by kebab-case keys.
    pub result: HashMap<String, OwnedVariant>,
    /// When it was asked for, in microseconds since the epoch.
    pub created_at: u64,
    /// When it ended, or 0.
    pub finished_at: u64,
}

impl Row for JobProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Job";
}
