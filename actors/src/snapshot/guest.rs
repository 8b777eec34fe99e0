//! A guest and its connections as the outside sees them.

use std::{collections::BTreeMap, path::PathBuf};

use nexus_model::{ConnectionKind, ConnectionState, Direction, Name, Timestamp};

/// What the agent of a connected guest said of it. None of it is trusted: it is shown, never acted on.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestSnapshot {
    /// Version of the agent.
    pub agent_version: String,
    /// Revision of the protocol that both sides speak.
    pub protocol_revision: u32,
    /// Host name.
    pub hostname: String,
    /// Addresses, without prefix lengths.
    pub addresses: Vec<String>,
    /// The guest's boot id.
    pub boot_id: String,
    /// `NAME` of its os-release.
    pub os_name: String,
    /// `VERSION_ID` of its os-release.
    pub os_version: String,
    /// `/etc/nexus/image.yaml`.
    pub image_metadata: BTreeMap<String, String>,
    /// What the agent can beyond what every agent of the revision can.
    pub features: Vec<String>,
    /// Since when it is connected.
    pub connected_at: Timestamp,
}

/// A stream between host and guest at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSnapshot {
    /// The VM.
    pub vm: Name,
    /// Its number within the VM.
    pub number: u32,
    /// The vsock port.
    pub port: u32,
    /// What it carries.
    pub kind: ConnectionKind,
    /// Who opened it.
    pub direction: Direction,
    /// Where it is in its life.
    pub state: ConnectionState,
    /// Who has it: [`Self::NEXUSD`], or a client by its bus name.
    pub owner: String,
    /// The Unix socket on the host, where there is one.
    pub host_path: Option<PathBuf>,
    /// Since when it is open.
    pub opened_at: Timestamp,
    /// Why it is not open, as far as that is known.
    pub failure: Option<String>,
}

impl ConnectionSnapshot {
    /// The owner of those that are kept for as long as their VM lives.
    pub const NEXUSD: &str = "nexusd";

    /// Whether it is one of these.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.owner == Self::NEXUSD
    }
}

/// What a connection has carried since this nexusd began, over all the times that it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStatistics {
    /// Bytes from the guest.
    pub bytes_in: u64,
    /// Bytes to the guest.
    pub bytes_out: u64,
    /// Frames from the guest.
    pub frames_in: u64,
    /// Frames to the guest.
    pub frames_out: u64,
    /// How often it was opened again in one and the same run of the VM.
    pub reconnects: u64,
}
