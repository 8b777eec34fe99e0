//! What is made, found and listed.

use zbus::{DeserializeDict, ObjectPath, OwnedFd, OwnedObjectPath, Type};

use super::{Options, Row};
use crate::Error;

/// What is made, found and listed.
#[zbus::proxy(
    interface = "org.workfort.Nexus1.Manager",
    default_service = "org.workfort.Nexus1",
    default_path = "/org/workfort/Nexus1"
)]
pub trait Manager {
    /// Creates a VM and does not start it.
    fn create_vm(&self, name: &str, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Creates a VM and starts it.
    fn run_vm(&self, name: &str, options: Options<'_>) -> Result<(OwnedObjectPath, OwnedObjectPath), Error>;
    /// The VM of this name or id.
    fn get_vm(&self, name: &str) -> Result<OwnedObjectPath, Error>;
    /// The VM whose VMM has this process id.
    fn get_vm_by_pid(&self, pid: u32) -> Result<OwnedObjectPath, Error>;
    /// The workspace of this name or id.
    fn get_workspace(&self, name: &str) -> Result<OwnedObjectPath, Error>;
    /// The image of this name or id.
    fn get_image(&self, name: &str) -> Result<OwnedObjectPath, Error>;
    /// The asset of this name (`kernel-6.18.9`) or id.
    fn get_asset(&self, name: &str) -> Result<OwnedObjectPath, Error>;
    /// The job of this number.
    fn get_job(&self, id: u32) -> Result<OwnedObjectPath, Error>;
    /// The supervisor at a place in the tree below the root: `vms`, `vms/web`, or `root` itself.
    fn get_supervisor(&self, name: &str) -> Result<OwnedObjectPath, Error>;
    /// Name, state, health and object of every VM, by name.
    fn list_vms(&self) -> Result<Vec<(String, String, String, OwnedObjectPath)>, Error>;
    /// Number, kind, state, progress (0 to 1, or -1 when unknown) and object of every job, the oldest first.
    fn list_jobs(&self) -> Result<Vec<(u32, String, String, f64, OwnedObjectPath)>, Error>;
    /// As `Vm.Start`.
    fn start_vm(&self, name: &str, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// As `Vm.Stop`.
    fn stop_vm(&self, name: &str, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// As Vm.Kill.
    fn kill_vm(&self, name: &str) -> Result<(), Error>;
    /// Copies a disk or a folder into a master image.
    fn import_image(&self, path: &str, name: &str, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Makes a workspace from an image, by the option `base`.
    fn create_workspace(&self, name: &str, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Copies a kernel or an initrd into Nexus' own folder.
    fn import_asset(&self, kind: &str, path: &str, options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// Who asked for what, as lines of JSON.
    fn open_audit(&self, options: Options<'_>) -> Result<OwnedFd, Error>;
    /// What happened, as lines of JSON.
    fn open_events(&self, options: Options<'_>) -> Result<OwnedFd, Error>;
    /// What Nexus needs of this machine, whether it is there, and what was found or what to do.
    fn check_host(&self) -> Result<Vec<(String, bool, String)>, Error>;
    /// What nothing owns: its kind, its name, and what becomes of it.
    fn list_orphans(&self) -> Result<Vec<(String, String, String)>, Error>;
    /// Removes orphans at once, of these kinds or all that hold no data; with the option `dry-run` it only says which.
    fn prune(&self, kinds: &[&str], options: Options<'_>) -> Result<OwnedObjectPath, Error>;
    /// A job was made.
    #[zbus(signal)]
    fn job_new(&self, id: u32, job: ObjectPath<'_>, kind: &str) -> zbus::Result<()>;
    /// A job has ended and is on its way out: its object stays for 60 s, so that its result can be read.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, kind: &str, state: &str) -> zbus::Result<()>;
    /// A VMM ended, asked or unasked.
    #[zbus(signal)]
    fn vm_exited(&self, name: &str, vm: ObjectPath<'_>, exit_code: i32, cause: &str, reason: &str) -> zbus::Result<()>;
    /// Version of nexusd.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> Result<String, Error>;
    /// Counts the additions to this API.
    #[zbus(property(emits_changed_signal = "const"))]
    fn api_revision(&self) -> Result<u32, Error>;
    /// Names of optional capabilities. An open list; bind-caller: jobs can be bound to their caller.
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Result<Vec<String>, Error>;
    /// The processor, as uname -m prints it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn architecture(&self) -> Result<String, Error>;
    /// What can run VMs here, the best first: firecracker, qemu, process.
    #[zbus(property)]
    fn vmm_available(&self) -> Result<Vec<String>, Error>;
    /// starting, running, degraded (an actor is unwell) or draining. An open list.
    #[zbus(property)]
    fn state(&self) -> Result<String, Error>;
    /// How many VMs there are.
    #[zbus(property)]
    fn vm_count(&self) -> Result<u32, Error>;
    /// How many of them have a VMM.
    #[zbus(property)]
    fn running_vm_count(&self) -> Result<u32, Error>;
    /// How many jobs have not ended.
    #[zbus(property)]
    fn job_count(&self) -> Result<u32, Error>;
    /// Memory of all VMs that have a VMM.
    #[zbus(property)]
    fn committed_memory_bytes(&self) -> Result<u64, Error>;
    /// Where images and workspaces are.
    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_path(&self) -> Result<String, Error>;
    /// How they are kept: btrfs, reflink or copy.
    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_backend(&self) -> Result<String, Error>;
    /// Free space there.
    #[zbus(property(emits_changed_signal = "false"))]
    fn storage_free_bytes(&self) -> Result<u64, Error>;
    /// The store's file.
    #[zbus(property(emits_changed_signal = "const"))]
    fn database_path(&self) -> Result<String, Error>;
    /// The store's schema.
    #[zbus(property(emits_changed_signal = "const"))]
    fn schema_version(&self) -> Result<u32, Error>;
    /// How many tables it has.
    #[zbus(property(emits_changed_signal = "const"))]
    fn table_count(&self) -> Result<u32, Error>;
    /// Size of the store's file and its log.
    #[zbus(property(emits_changed_signal = "false"))]
    fn database_bytes(&self) -> Result<u64, Error>;
    /// The kernel that is taken where none is named, or /.
    #[zbus(property)]
    fn default_kernel(&self) -> Result<OwnedObjectPath, Error>;
}

/// All properties of `org.workfort.Nexus1.Manager` at one instant.
#[derive(Debug, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct ManagerProperties {
    /// Version of nexusd.
    pub version: String,
    /// Counts the additions to this API.
    pub api_revision: u32,
    /// Names of optional capabilities. An open list; bind-caller: jobs can be bound to their caller.
    pub features: Vec<String>,
    /// The processor, as uname -m prints it.
    pub architecture: String,
    /// What can run VMs here, the best first: firecracker, qemu, process.
    pub vmm_available: Vec<String>,
    /// starting, running, degraded (an actor is unwell) or draining. An open list.
    pub state: String,
    /// How many VMs there are.
    pub vm_count: u32,
    /// How many of them have a VMM.
    pub running_vm_count: u32,
    /// How many jobs have not ended.
    pub job_count: u32,
    /// Memory of all VMs that have a VMM.
    pub committed_memory_bytes: u64,
    /// Where images and workspaces are.
    pub storage_path: String,
    /// How they are kept: btrfs, reflink or copy.
    pub storage_backend: String,
    /// Free space there.
    pub storage_free_bytes: u64,
    /// The store's file.
    pub database_path: String,
    /// The store's schema.
    pub schema_version: u32,
    /// How many tables it has.
    pub table_count: u32,
    /// Size of the store's file and its log.
    pub database_bytes: u64,
    /// The kernel that is taken where none is named, or /.
    pub default_kernel: OwnedObjectPath,
}

impl Row for ManagerProperties {
    const INTERFACE: &str = "org.workfort.Nexus1.Manager";
}
