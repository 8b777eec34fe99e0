//! The inside of a virtual machine.

use std::collections::HashMap;

use zbus::{DeserializeDict, OwnedFd, OwnedVariant, Type};

use super::{Options, Row};
use crate::Error;

/// The inside of a virtual machine.
#[zbus::proxy(interface = "org.workfort.Nexus1.Guest", default_service = "org.workfort.Nexus1")]
pub trait Guest {
    /// Runs a command and waits for its end. For exact bytes, an input, or much output there is Exec. A client that waits longer than the usual 25 s must say so to its own library as well.
    fn run(&self, argv: &[&str], options: Options<'_>) -> Result<(i32, String, String, bool), Error>;
    /// Starts a command. Its bytes do not pass through nexusd. Close the streams that are not needed.
    fn exec(&self, argv: &[&str], options: Options<'_>) -> Result<(u64, OwnedFd, OwnedFd, OwnedFd), Error>;
    /// Runs a command on a terminal, or the login shell without one, or finds the terminal of that name. Its bytes do not pass through nexusd.
    fn open_shell(&self, argv: &[&str], options: Options<'_>) -> Result<(u64, OwnedFd), Error>;
    /// Gives the terminal on which a command runs another size.
    fn resize_exec(&self, id: u64, columns: u32, rows: u32) -> Result<(), Error>;
    /// Number, name, columns, rows and viewers of every terminal.
    fn list_shells(&self) -> Result<Vec<(u64, String, u32, u32, u32)>, Error>;
    /// Answers when the command has ended.
    fn wait_exec(&self, id: u64) -> Result<(i32, i32), Error>;
    /// Sends a signal to all processes of a command.
    fn signal_exec(&self, id: u64, signal: i32) -> Result<(), Error>;
    /// Number and arguments of every command that runs.
    fn list_execs(&self) -> Result<Vec<(u64, Vec<String>)>, Error>;
    /// Opens a session of the Model Context Protocol (MCP) with the guest. Its bytes do not pass through nexusd.
    fn open_tools(&self, options: Options<'_>) -> Result<OwnedFd, Error>;
    /// Reads a file, or a part of it: at most 256 KiB from the option `offset` on, and whether there is more.
    fn read_file(&self, path: &str, options: Options<'_>) -> Result<(Vec<u8>, bool), Error>;
    /// Writes a file of at most 256 KiB, whole or not at all unless the option `append` is given.
    fn write_file(&self, path: &str, data: &[u8], options: Options<'_>) -> Result<(), Error>;
    /// Deletes a file or a link, or, with the option `recursive`, a folder with everything in it.
    fn delete_file(&self, path: &str, options: Options<'_>) -> Result<(), Error>;
    /// Opens a stream that carries files to the guest. Its bytes do not pass through nexusd.
    fn copy_in(&self, path: &str, options: Options<'_>) -> Result<OwnedFd, Error>;
    /// Opens a stream that carries files from the guest. Its bytes do not pass through nexusd.
    fn copy_out(&self, path: &str, options: Options<'_>) -> Result<OwnedFd, Error>;
    /// What the image says of itself in `/etc/nexus/image.yaml`.
    fn get_image_metadata(&self) -> Result<HashMap<String, OwnedVariant>, Error>;
    /// Version of the agent.
    #[zbus(property)]
    fn agent_version(&self) -> Result<String, Error>;
    /// Revision of the protocol that both sides speak.
    #[zbus(property)]
    fn protocol_revision(&self) -> Result<u32, Error>;
    /// Its host name.
    #[zbus(property)]
    fn hostname(&self) -> Result<String, Error>;
    /// Its addresses, without prefix lengths.
    #[zbus(property)]
    fn addresses(&self) -> Result<Vec<String>, Error>;
    /// The guest's boot id.
    #[zbus(property)]
    fn boot_id(&self) -> Result<String, Error>;
    /// ID of its os-release(5).
    #[zbus(property)]
    fn os_name(&self) -> Result<String, Error>;
    /// VERSION_ID of its os-release(5).
    #[zbus(property)]
    fn os_version(&self) -> Result<String, Error>;
    /// What the agent can beyond what every agent of the revision can, in the order of the alphabet. An open list.
    #[zbus(property)]
    fn features(&self) -> Result<Vec<String>, Error>;
    /// Since when the agent is connected, in microseconds since the epoch.
    #[zbus(property)]
    fn connected_at(&self) -> Result<u64, Error>;
    /// When the agent has answered last, in microseconds since the epoch. No signal tells of it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_heartbeat_at(&self) -> Result<u64, Error>;
}

/// All properties of `org.workfort.Nexus1.Guest` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct GuestProperties {
    /// Version of the agent.
    pub agent_version: String,
    /// Revision of the protocol that both sides speak.
    pub protocol_revision: u32,
    /// Its host name.
    pub hostname: String,
    /// Its addresses, without prefix lengths.
    pub addresses: Vec<String>,
    /// The guest's boot id.
    pub boot_id: String,
    /// ID of its os-release(5).
    pub os_name: String,
    /// VERSION_ID of its os-release(5).
    pub os_version: String,
    /// What the agent can beyond what every agent of the revision can, in the order of the alphabet. An open list.
    pub features: Vec<String>,
    /// Since when the agent is connected, in microseconds since the epoch.
    pub connected_at: u64,
    /// When the agent has answered last, in microseconds since the epoch. No signal tells of it.
    pub last_heartbeat_at: u64,
}

impl Row for GuestProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Guest";
}
