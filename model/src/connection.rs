//! Streams between the host and a guest agent.

use crate::kebab::words;

words! {
    /// What a vsock connection carries.
    pub enum ConnectionKind {
        /// Handshake, heartbeat, commands' life and shutdown (vsock port 100).
        Agent = "agent",
    }
}

words! {
    /// Who opened a connection.
    pub enum Direction {
        /// The host dialled the guest.
        Outbound = "outbound",
    }
}

words! {
    /// Where a connection is in its life.
    pub enum ConnectionState {
        /// The VM is not running, so nothing is tried.
        Parked = "parked",
        /// Dialling, or waiting to dial again.
        Connecting = "connecting",
        /// The handshake is done and frames flow.
        Open = "open",
    }
}
