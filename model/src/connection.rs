//! Streams between the host and a guest agent.

use crate::kebab::words;

words! {
    /// What a vsock connection carries.
    pub enum ConnectionKind {
        /// Handshake, heartbeat, commands' life and shutdown (vsock port 100).
        Agent = "agent",
        /// A session of the Model Context Protocol (port 200).
        Tools = "tools",
        /// What a viewer of a terminal sees and types (ports 300 to 399).
        Terminal = "terminal",
        /// The stdio of a command: three streams that are one connection (port 101).
        Stdio = "stdio",
        /// A copy of files (port 102).
        Bulk = "bulk",
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
        /// Nothing is tried: the VM is not running, or a spare connection waits for the agent.
        Parked = "parked",
        /// Dialling, or waiting to dial again.
        Connecting = "connecting",
        /// The handshake is done and frames flow.
        Open = "open",
    }
}
