//! `vm_list`, `vm_create`, `vm_start`, `vm_stop` and `vm_delete`.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use nexus_dbus::client::{Options, VmProperties, WorkspaceProperties};
use nexus_mcp::{Reply, schemars::JsonSchema};
use serde::{Deserialize, Serialize};

use crate::{
    bus::Bus,
    failure::Failure,
    interrupt::Interrupts,
    job::Job,
    vm::{
        at, find,
        ready::{self, NotReady},
    },
};

/// How long a guest may take to boot unless something else is asked for.
const BOOT: Duration = Duration::from_secs(300);

/// Nothing is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct VmList {}

/// What to create.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct VmCreate {
    /// Its name: lower-case letters, digits and hyphens. Made up unless given.
    #[serde(default)]
    name: Option<String>,
    /// Make a disk of its own from this image.
    #[serde(default)]
    image: Option<String>,
    /// Use this workspace as its disk, instead of an image.
    #[serde(default)]
    workspace: Option<String>,
    /// Memory in bytes, whole MiB; 128 MiB unless given.
    #[serde(default)]
    memory_bytes: Option<u64>,
    /// Virtual CPUs; 1 unless given.
    #[serde(default)]
    vcpus: Option<u32>,
    /// The kernel to boot; the default one unless given.
    #[serde(default)]
    kernel: Option<String>,
    /// What runs it: auto, firecracker, qemu or process; auto unless given.
    #[serde(default)]
    vmm: Option<String>,
    /// Variables for every command in it.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Words of your own for it.
    #[serde(default)]
    tags: Vec<String>,
    /// Remove it, and its disk, once it has stopped.
    #[serde(default)]
    ephemeral: bool,
}

/// What to start.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct VmStart {
    /// Its name or id.
    vm: String,
    /// How long its guest may take to answer, in milliseconds; 5 minutes unless given. It boots on after that.
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// What to stop.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct VmStop {
    /// Its name or id.
    vm: String,
    /// How long its guest may take before it is killed, in milliseconds; as Nexus is configured unless given.
    #[serde(default)]
    grace_ms: Option<u64>,
}

/// What to delete.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct VmDelete {
    /// Its name or id.
    vm: String,
    /// Kill it, should it run.
    #[serde(default)]
    force: bool,
    /// Delete its disk as well, with all that is on it.
    #[serde(default)]
    workspaces: bool,
}

/// All VMs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
pub(super) struct Vms {
    /// By name.
    vms: Vec<Vm>,
}

/// A VM.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
pub(super) struct Vm {
    /// Its name.
    name: String,
    /// created, starting, running, paused, stopping, stopped, crashed or failed.
    state: String,
    /// Why it is in that state.
    state_reason: String,
    /// Whether its guest answers, so that commands can be run in it.
    guest_ready: bool,
    /// What runs it; empty where it has not run yet.
    vmm: String,
    /// Whether that keeps the guest from the host.
    isolated: bool,
    /// The image that its disk was made from, if any.
    image: Option<String>,
    /// Its disks.
    workspaces: Vec<String>,
    /// Memory in bytes.
    memory_bytes: u64,
    /// Virtual CPUs.
    vcpus: u32,
    /// Words of its owner's.
    tags: Vec<String>,
    /// How it ended the last time, if it did.
    exit_reason: String,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
pub(super) struct Deleted {
    /// The VM.
    vm: String,
    /// Its disks that are still there.
    workspaces_left: Vec<String>,
}

impl Vm {
    fn new(vm: &VmProperties, objects: &crate::bus::Objects) -> Self {
        Self {
            name: vm.name.clone(),
            state: vm.state.clone(),
            state_reason: vm.state_reason.clone(),
            guest_ready: vm.guest_ready,
            vmm: vm.vmm.clone(),
            isolated: vm.isolated,
            image: objects.name(&vm.image),
            workspaces: objects.names(&vm.workspaces),
            memory_bytes: vm.memory_bytes,
            vcpus: vm.vcpu_count,
            tags: vm.tags.clone(),
            exit_reason: vm.exit_reason.clone(),
        }
    }
}

pub(super) async fn list(VmList {}: VmList, bus: &Bus) -> Result<Reply, Failure> {
    let objects = bus.objects("list VMs").await?;
    Ok(Reply::json(&Vms { vms: objects.vms().iter().map(|(vm, _)| Vm::new(vm, &objects)).collect() }))
}

/// How the VM at a path is now.
async fn show(bus: &Bus, path: &zbus::OwnedObjectPath, what: &str) -> Result<Reply, Failure> {
    let objects = bus.objects(what).await?;
    let vm = objects.all.get(path).and_then(|object| object.vm.as_ref());
    let vm = vm.ok_or_else(|| Failure::new(format!("cannot {what}")).because("It is gone by now."))?;
    Ok(Reply::json(&Vm::new(vm, &objects)))
}

pub(super) async fn create(args: VmCreate, bus: &Bus) -> Result<Reply, Failure> {
    let what = match &args.name {
        None => "create a VM".to_owned(),
        Some(name) => format!("create VM {name}"),
    };
    let mut options = Options::new();
    for (key, value) in
        [("image", &args.image), ("workspace", &args.workspace), ("kernel", &args.kernel), ("vmm", &args.vmm)]
    {
        if let Some(value) = value {
            options.insert(key, value.as_str().into());
        }
    }
    if let Some(bytes) = args.memory_bytes {
        options.insert("memory-bytes", bytes.into());
    }
    if let Some(count) = args.vcpus {
        options.insert("vcpus", count.into());
    }
    if !args.env.is_empty() {
        let env: HashMap<&str, &str> = args.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        options.insert("env", env.into());
    }
    if !args.tags.is_empty() {
        let tags: Vec<&str> = args.tags.iter().map(String::as_str).collect();
        options.insert("tags", tags.into());
    }
    if args.ephemeral {
        options.insert("ephemeral", true.into());
    }
    let manager = bus.manager().await?;
    let path = bus.ask(&what, manager.create_vm(args.name.as_deref().unwrap_or_default(), options)).await?;
    show(bus, &path, &what).await
}

pub(super) async fn start(args: VmStart, bus: &Bus) -> Result<Reply, Failure> {
    let name = &args.vm;
    let what = format!("start VM {name}");
    let mut interrupts = Interrupts::listen()?;
    let vm = find(bus, name, &what).await?;
    // One that is up, or on its way, has only to be waited for.
    if !matches!(bus.read::<VmProperties>(&what, &vm).await?.state.as_str(), "running" | "starting") {
        let path = bus.ask(&what, at(bus, &vm, &what).await?.start(Options::new())).await?;
        Job { what: what.clone(), title: format!("Starting {name}"), path }.wait(bus, &mut interrupts).await?;
    }
    let limit = args.timeout_ms.map_or(BOOT, Duration::from_millis);
    ready::wait(bus, &vm, name, limit, &mut interrupts).await.map_err(NotReady::of_lasting)?;
    show(bus, &vm, &what).await
}

pub(super) async fn stop(args: VmStop, bus: &Bus) -> Result<Reply, Failure> {
    let name = &args.vm;
    let what = format!("stop VM {name}");
    let mut interrupts = Interrupts::listen()?;
    let vm = find(bus, name, &what).await?;
    let ephemeral = bus.read::<VmProperties>(&what, &vm).await?.ephemeral;
    let mut options = Options::new();
    if let Some(grace) = args.grace_ms {
        options.insert("timeout-usec", grace.saturating_mul(1000).into());
    }
    let before = bus.objects(&what).await?;
    let path = bus.ask(&what, at(bus, &vm, &what).await?.stop(options)).await?;
    Job { what: what.clone(), title: format!("Stopping {name}"), path }.wait(bus, &mut interrupts).await?;
    match (show(bus, &vm, &what).await, before.all.get(&vm).and_then(|object| object.vm.as_ref())) {
        // It goes with its end.
        (Err(_), Some(vm)) if ephemeral => {
            let last = Vm::new(vm, &before);
            Ok(Reply::json(&Vm { state: "stopped".to_owned(), guest_ready: false, ..last }))
        }
        (shown, _) => shown,
    }
}

pub(super) async fn delete(args: VmDelete, bus: &Bus) -> Result<Reply, Failure> {
    let name = args.vm;
    let what = format!("delete VM {name}");
    let mut interrupts = Interrupts::listen()?;
    let vm = find(bus, &name, &what).await?;
    let disks = bus.read::<VmProperties>(&what, &vm).await?.workspaces;
    let mut options = Options::new();
    for (key, value) in [("force", args.force), ("remove-workspaces", args.workspaces)] {
        if value {
            options.insert(key, true.into());
        }
    }
    let path = bus.ask(&what, at(bus, &vm, &what).await?.remove(options)).await?;
    Job { what: what.clone(), title: format!("Deleting {name}"), path }.wait(bus, &mut interrupts).await?;
    let mut workspaces_left = Vec::new();
    for disk in &disks {
        // One that is gone by now is nothing to tell of.
        if let Ok(disk) = bus.read::<WorkspaceProperties>(&what, disk).await {
            workspaces_left.push(disk.name);
        }
    }
    Ok(Reply::json(&Deleted { vm: name, workspaces_left }))
}
