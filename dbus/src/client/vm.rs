//! A virtual machine.

use zbus::{DeserializeDict, OwnedFd, OwnedObjectPath, Type};

use super::{Options, Row};
use crate::Error;

/// A virtual machine.
#[zbus::proxy(interface = "org.workfort.Nexus1.Vm", default_service = "org.workfort.Nexus1")]
pub trait Vm {
    /// Legal when it is created, stopped, crashed or failed.
    fn start(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Asks the guest to end, then kills the VMM. Stopping what is stopped is done at once. A stopped VM stays stopped, whatever its restart policy.
    fn stop(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Stops it, if it runs, and starts it.
    fn restart(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Kills the VMM. The guest is not asked and what it has not written is lost.
    fn kill(&self) -> Result<(), Error>;
    /// Makes the virtual CPUs stand still. Legal when it is running.
    fn pause(&self) -> Result<(), Error>;
    /// Makes the virtual CPUs go on. Legal when it is paused.
    fn resume(&self) -> Result<(), Error>;
    /// Removes it.
    fn remove(&self, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// The console, to read until the end of file.
    fn open_log(&self, options: Options<'_>) -> Result<OwnedFd, Error>;
    /// When, the state it then was in, why, and one sentence more; the newest first, at most `limit` unless that is 0.
    fn get_history(&self, limit: u32) -> Result<Vec<(u64, String, String, String)>, Error>;
    /// The VMM ended, asked or unasked.
    #[zbus(signal)]
    fn exited(&self, exit_code: i32, cause: &str, reason: &str) -> zbus::Result<()>;
    /// Never used twice.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> Result<String, Error>;
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> Result<String, Error>;
    /// One line of free text.
    #[zbus(property)]
    fn label(&self) -> Result<String, Error>;
    /// Changes it.
    #[zbus(property)]
    fn set_label(&self, value: &str) -> Result<(), Error>;
    /// portal, work or service.
    #[zbus(property(emits_changed_signal = "const"))]
    fn role(&self) -> Result<String, Error>;
    /// The user's own words for it.
    #[zbus(property)]
    fn tags(&self) -> Result<Vec<String>, Error>;
    /// Changes it.
    #[zbus(property)]
    fn set_tags(&self, value: &[&str]) -> Result<(), Error>;
    /// created, starting, running, paused, stopping, stopped, crashed or failed. An open list.
    #[zbus(property)]
    fn state(&self) -> Result<String, Error>;
    /// Why it is in that state, as a word of an open list: requested, vmm-started, guest-poweroff, …
    #[zbus(property)]
    fn state_reason(&self) -> Result<String, Error>;
    /// Since when, in microseconds since the epoch.
    #[zbus(property)]
    fn state_changed_at(&self) -> Result<u64, Error>;
    /// What is under way, or /.
    #[zbus(property)]
    fn job(&self) -> Result<OwnedObjectPath, Error>;
    /// Whether the guest agent has answered end to end.
    #[zbus(property)]
    fn guest_ready(&self) -> Result<bool, Error>;
    /// Whether it goes, with its workspace, once it has stopped.
    #[zbus(property(emits_changed_signal = "const"))]
    fn ephemeral(&self) -> Result<bool, Error>;
    /// Whether it starts with the daemon.
    #[zbus(property)]
    fn autostart(&self) -> Result<bool, Error>;
    /// Changes it.
    #[zbus(property)]
    fn set_autostart(&self, value: bool) -> Result<(), Error>;
    /// When it is started again after it ended: no, on-failure or always.
    #[zbus(property)]
    fn restart_policy(&self) -> Result<String, Error>;
    /// Changes it.
    #[zbus(property)]
    fn set_restart_policy(&self, value: &str) -> Result<(), Error>;
    /// What runs it, ran it last, or was asked for: firecracker, qemu or process; empty when that is chosen at the start.
    #[zbus(property)]
    fn vmm(&self) -> Result<String, Error>;
    /// Whether that keeps the guest from the host: false for a plain process.
    #[zbus(property)]
    fn isolated(&self) -> Result<bool, Error>;
    /// The image that its disk came from, or /.
    #[zbus(property)]
    fn image(&self) -> Result<OwnedObjectPath, Error>;
    /// The kernel that it asked for, or last started with, or /.
    #[zbus(property)]
    fn kernel(&self) -> Result<OwnedObjectPath, Error>;
    /// Its disks, the root first.
    #[zbus(property)]
    fn workspaces(&self) -> Result<Vec<OwnedObjectPath>, Error>;
    /// Its streams.
    #[zbus(property)]
    fn connections(&self) -> Result<Vec<OwnedObjectPath>, Error>;
    /// Virtual CPUs.
    #[zbus(property)]
    fn vcpu_count(&self) -> Result<u32, Error>;
    /// Memory.
    #[zbus(property)]
    fn memory_bytes(&self) -> Result<u64, Error>;
    /// Its vsock context id.
    #[zbus(property)]
    fn context_id(&self) -> Result<u32, Error>;
    /// Process id of the VMM, 0 when there is none.
    #[zbus(property)]
    fn leader(&self) -> Result<u32, Error>;
    /// The systemd unit that holds it; empty without a user manager.
    #[zbus(property)]
    fn unit(&self) -> Result<String, Error>;
    /// systemd's invocation id of that unit.
    #[zbus(property)]
    fn invocation_id(&self) -> Result<String, Error>;
    /// How its VMM ended last, as in Exited; 0 while it has never ended.
    #[zbus(property)]
    fn exit_code(&self) -> Result<i32, Error>;
    /// One sentence about that end.
    #[zbus(property)]
    fn exit_reason(&self) -> Result<String, Error>;
    /// When it was created, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> Result<u64, Error>;
    /// When it was started last, or 0.
    #[zbus(property)]
    fn started_at(&self) -> Result<u64, Error>;
    /// When it ended last, or 0.
    #[zbus(property)]
    fn stopped_at(&self) -> Result<u64, Error>;
    /// From the request to the VMM running, at the last start, in microseconds.
    #[zbus(property, name = "BootDurationUSec")]
    fn boot_duration_usec(&self) -> Result<u64, Error>;
    /// From the request to the agent's answer, at the last start, in microseconds.
    #[zbus(property, name = "ReadyDurationUSec")]
    fn ready_duration_usec(&self) -> Result<u64, Error>;
    /// Where the VMM's own API listens; empty when there is none.
    #[zbus(property)]
    fn api_socket_path(&self) -> Result<String, Error>;
    /// Where its vsock is reached; empty when it has no socket on the host.
    #[zbus(property)]
    fn vsock_path(&self) -> Result<String, Error>;
    /// Where its console is written to.
    #[zbus(property)]
    fn console_log_path(&self) -> Result<String, Error>;
}

/// All properties of `org.workfort.Nexus1.Vm` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct VmProperties {
    /// Never used twice.
    pub id: String,
    /// Its name.
    pub name: String,
    /// One line of free text.
    pub label: String,
    /// portal, work or service.
    pub role: String,
    /// The user's own words for it.
    pub tags: Vec<String>,
    /// created, starting, running, paused, stopping, stopped, crashed or failed. An open list.
    pub state: String,
    /// Why it is in that state, as a word of an open list: requested, vmm-started, guest-poweroff, …
    pub state_reason: String,
    /// Since when, in microseconds since the epoch.
    pub state_changed_at: u64,
    /// What is under way, or /.
    pub job: OwnedObjectPath,
    /// Whether the guest agent has answered end to end.
    pub guest_ready: bool,
    /// Whether it goes, with its workspace, once it has stopped.
    pub ephemeral: bool,
    /// Whether it starts with the daemon.
    pub autostart: bool,
    /// When it is started again after it ended: no, on-failure or always.
    pub restart_policy: String,
    /// What runs it, ran it last, or was asked for: firecracker, qemu or process; empty when that is chosen at the start.
    pub vmm: String,
    /// Whether that keeps the guest from the host: false for a plain process.
    pub isolated: bool,
    /// The image that its disk came from, or /.
    pub image: OwnedObjectPath,
    /// The kernel that it asked for, or last started with, or /.
    pub kernel: OwnedObjectPath,
    /// Its disks, the root first.
    pub workspaces: Vec<OwnedObjectPath>,
    /// Its streams.
    pub connections: Vec<OwnedObjectPath>,
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Its vsock context id.
    pub context_id: u32,
    /// Process id of the VMM, 0 when there is none.
    pub leader: u32,
    /// The systemd unit that holds it; empty without a user manager.
    pub unit: String,
    /// systemd's invocation id of that unit.
    pub invocation_id: String,
    /// How its VMM ended last, as in Exited; 0 while it has never ended.
    pub exit_code: i32,
    /// One sentence about that end.
    pub exit_reason: String,
    /// When it was created, in microseconds since the epoch.
    pub created_at: u64,
    /// When it was started last, or 0.
    pub started_at: u64,
    /// When it ended last, or 0.
    pub stopped_at: u64,
    /// From the request to the VMM running, at the last start, in microseconds.
    #[zbus(rename = "BootDurationUSec")]
    pub boot_duration_usec: u64,
    /// From the request to the agent's answer, at the last start, in microseconds.
    #[zbus(rename = "ReadyDurationUSec")]
    pub ready_duration_usec: u64,
    /// Where the VMM's own API listens; empty when there is none.
    pub api_socket_path: String,
    /// Where its vsock is reached; empty when it has no socket on the host.
    pub vsock_path: String,
    /// Where its console is written to.
    pub console_log_path: String,
}

impl Row for VmProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Vm";
}
