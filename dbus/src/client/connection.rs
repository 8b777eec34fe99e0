//! A stream between host and guest.

use std::collections::HashMap;

use nexus_model::ConnectionKind;
use zbus::{DeserializeDict, OwnedObjectPath, Type};

use super::Row;
use crate::Error;

/// A stream between host and guest.
#[zbus::proxy(interface = "org.workfort.Nexus1.Connection", default_service = "org.workfort.Nexus1")]
pub trait Connection {
    /// Hangs up. What nexusd keeps is dialled again at once. Commands of `Guest.Run` that are under way end with the one to the
    /// agent, those of `Guest.Exec` go on.
    fn close(&self) -> Result<(), Error>;
    /// `bytes-in`, `bytes-out`, `frames-in`, `frames-out` and `reconnects`, since nexusd began.
    fn get_statistics(&self) -> Result<HashMap<String, u64>, Error>;
    /// The VM.
    #[zbus(property(emits_changed_signal = "const"))]
    fn vm(&self) -> Result<OwnedObjectPath, Error>;
    /// The vsock port.
    #[zbus(property)]
    fn port(&self) -> Result<u32, Error>;
    /// What it carries: agent, tools, terminal, bulk or stdio. An open list.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> Result<String, Error>;
    /// Who opened it: outbound is the host. An open list.
    #[zbus(property(emits_changed_signal = "const"))]
    fn direction(&self) -> Result<String, Error>;
    /// parked (nothing is tried), connecting or open. An open list.
    #[zbus(property)]
    fn state(&self) -> Result<String, Error>;
    /// Who has it: nexusd, or a client by its bus name.
    #[zbus(property)]
    fn owner(&self) -> Result<String, Error>;
    /// The Unix socket on the host; empty where there is none.
    #[zbus(property)]
    fn host_path(&self) -> Result<String, Error>;
    /// Since when it is open, in microseconds since the epoch, or 0.
    #[zbus(property)]
    fn opened_at(&self) -> Result<u64, Error>;
    /// Why it is not open; empty while it is, or where that is not known.
    #[zbus(property)]
    fn failure_reason(&self) -> Result<String, Error>;
}

/// All properties of `org.workfort.Nexus1.Connection` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct ConnectionProperties {
    /// The VM.
    pub vm: OwnedObjectPath,
    /// The vsock port.
    pub port: u32,
    /// What it carries: agent, tools, terminal, bulk or stdio. An open list.
    pub kind: String,
    /// Who opened it: outbound is the host. An open list.
    pub direction: String,
    /// parked (nothing is tried), connecting or open. An open list.
    pub state: String,
    /// Who has it: nexusd, or a client by its bus name.
    pub owner: String,
    /// The Unix socket on the host; empty where there is none.
    pub host_path: String,
    /// Since when it is open, in microseconds since the epoch, or 0.
    pub opened_at: u64,
    /// Why it is not open; empty while it is, or where that is not known.
    pub failure_reason: String,
}

impl ConnectionProperties {
    /// Whether it is that to the guest's agent, which everything asked of the guest goes through.
    #[must_use]
    pub fn is_of_agent(&self) -> bool {
        self.kind == ConnectionKind::Agent.as_str()
    }
}

impl Row for ConnectionProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Connection";
}
