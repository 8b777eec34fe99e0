//! An actor under supervision.

use zbus::{DeserializeDict, OwnedObjectPath, Type};

use super::{Options, Row};
use crate::Error;

/// An actor under supervision.
#[zbus::proxy(interface = "org.workfort.Nexus1.Supervised", default_service = "org.workfort.Nexus1")]
pub trait Supervised {
    /// Restarts the actor and leaves the thing that it stands for alone: no VM notices. Generation goes up.
    fn restart_actor(&self, options: Options<'_>) -> Result<(), Error>;
    /// Forgets the faults of the actor and tries it again if it had given up; of a VM its failures, too.
    fn reset_failed(&self) -> Result<(), Error>;
    /// ok, restarting, degraded, unreachable, unmanaged or failed. An open list.
    #[zbus(property)]
    fn health(&self) -> Result<String, Error>;
    /// Number of the actor's current or last incarnation; 0 before the first.
    #[zbus(property)]
    fn generation(&self) -> Result<u64, Error>;
    /// How many times it was started again, for whatever reason.
    #[zbus(property)]
    fn restart_count(&self) -> Result<u64, Error>;
    /// Failures of the thing: its VMM exited, its stream was reset.
    #[zbus(property)]
    fn failure_count(&self) -> Result<u64, Error>;
    /// Faults of the software: the actor panicked, returned an error, did not start or ended unasked.
    #[zbus(property)]
    fn fault_count(&self) -> Result<u64, Error>;
    /// As many faults within WindowUSec are answered with a restart; 0 for the root, which is never restarted.
    #[zbus(property)]
    fn intensity(&self) -> Result<u32, Error>;
    /// The time in which they are counted, in microseconds.
    #[zbus(property, name = "WindowUSec")]
    fn window_usec(&self) -> Result<u64, Error>;
    /// When the last fault was, in microseconds since the epoch, or 0.
    #[zbus(property)]
    fn last_fault_at(&self) -> Result<u64, Error>;
    /// What that was, in one sentence; empty before the first.
    #[zbus(property)]
    fn last_fault_reason(&self) -> Result<String, Error>;
    /// When it is tried again, or 0.
    #[zbus(property)]
    fn next_restart_at(&self) -> Result<u64, Error>;
    /// When its incarnation came up; 0 while it is not up.
    #[zbus(property)]
    fn started_at(&self) -> Result<u64, Error>;
    /// Who restarts it, or / for the root.
    #[zbus(property(emits_changed_signal = "const"))]
    fn supervisor(&self) -> Result<OwnedObjectPath, Error>;
}

/// All properties of `org.workfort.Nexus1.Supervised` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct SupervisedProperties {
    /// ok, restarting, degraded, unreachable, unmanaged or failed. An open list.
    pub health: String,
    /// Number of the actor's current or last incarnation; 0 before the first.
    pub generation: u64,
    /// How many times it was started again, for whatever reason.
    pub restart_count: u64,
    /// Failures of the thing: its VMM exited, its stream was reset.
    pub failure_count: u64,
    /// Faults of the software: the actor panicked, returned an error, did not start or ended unasked.
    pub fault_count: u64,
    /// As many faults within WindowUSec are answered with a restart; 0 for the root, which is never restarted.
    pub intensity: u32,
    /// The time in which they are counted, in microseconds.
    #[zbus(rename = "WindowUSec")]
    pub window_usec: u64,
    /// When the last fault was, in microseconds since the epoch, or 0.
    pub last_fault_at: u64,
    /// What that was, in one sentence; empty before the first.
    pub last_fault_reason: String,
    /// When it is tried again, or 0.
    pub next_restart_at: u64,
    /// When its incarnation came up; 0 while it is not up.
    pub started_at: u64,
    /// Who restarts it, or / for the root.
    pub supervisor: OwnedObjectPath,
}

impl Row for SupervisedProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Supervised";
}
