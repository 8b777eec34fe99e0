//! `nexusctl status`.

use clap::Args;
use nexus_dbus::client::ManagerProperties;
use serde_json::{Value, json};

use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    output::{self, Fields, Format, FormatArgs, amount},
};

/// Show how Nexus is: the daemon, its store, its storage, and what there is
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    format: FormatArgs,
}

impl Status {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let manager = bus.properties().await?;
        let objects = bus.objects("count what there is").await?;
        match self.format.output {
            Format::Json => output::json(&as_json(&manager, &objects))?,
            Format::Table => output::line(fields(&manager, &objects).to_string())?,
        }
        Ok(Exit::OK)
    }
}

/// How many things of each kind there are.
struct Counts {
    images: usize,
    workspaces: usize,
    kernels: usize,
    ailing: usize,
}

impl Counts {
    fn of(objects: &Objects) -> Self {
        let actors = objects.all.values().filter_map(|object| object.supervised.as_ref());
        Self {
            images: objects.images().len(),
            workspaces: objects.workspaces().len(),
            kernels: objects.assets().iter().filter(|asset| asset.kind == "kernel").count(),
            ailing: actors.filter(|actor| actor.health != "ok").count(),
        }
    }
}

fn fields(manager: &ManagerProperties, objects: &Objects) -> Fields {
    let counts = Counts::of(objects);
    let state = match counts.ailing {
        0 => manager.state.clone(),
        one @ 1 => format!("{}: {one} part is not ok, see nexusctl tree", manager.state),
        several => format!("{}: {several} parts are not ok, see nexusctl tree", manager.state),
    };
    let vmms = match manager.vmm_available.as_slice() {
        [] => "none: see nexusctl doctor".to_owned(),
        some => some.join(", "),
    };
    let kernels = match objects.name(&manager.default_kernel) {
        Some(default) => format!("{}, {default} by default", counts.kernels),
        None => format!("{}: import one with nexusctl kernel import PATH", counts.kernels),
    };
    let memory = amount::size(manager.committed_memory_bytes);
    Fields::default()
        .field("State", state)
        .field("Version", format!("{}, API revision {}", manager.version, manager.api_revision))
        .field("VMs", format!("{}, {} running with {memory}", manager.vm_count, manager.running_vm_count))
        .field("Images", counts.images.to_string())
        .field("Workspaces", counts.workspaces.to_string())
        .field("Kernels", kernels)
        .field("Jobs", format!("{} under way", manager.job_count))
        .field("VMMs", vmms)
        .field("Storage", format!("{} with {} free", manager.storage_backend, amount::size(manager.storage_free_bytes)))
        .field("", &manager.storage_path)
        .field(
            "Database",
            format!(
                "schema {}, {} tables, {}",
                manager.schema_version,
                manager.table_count,
                amount::size(manager.database_bytes)
            ),
        )
        .field("", &manager.database_path)
}

fn as_json(manager: &ManagerProperties, objects: &Objects) -> Value {
    let counts = Counts::of(objects);
    json!({
        "state": manager.state,
        "version": manager.version,
        "api_revision": manager.api_revision,
        "features": manager.features,
        "architecture": manager.architecture,
        "vmm_available": manager.vmm_available,
        "vm_count": manager.vm_count,
        "running_vm_count": manager.running_vm_count,
        "job_count": manager.job_count,
        "image_count": counts.images,
        "workspace_count": counts.workspaces,
        "kernel_count": counts.kernels,
        "ailing_count": counts.ailing,
        "committed_memory_bytes": manager.committed_memory_bytes,
        "default_kernel": objects.name(&manager.default_kernel),
        "storage_path": manager.storage_path,
        "storage_backend": manager.storage_backend,
        "storage_free_bytes": manager.storage_free_bytes,
        "database_path": manager.database_path,
        "schema_version": manager.schema_version,
        "table_count": manager.table_count,
        "database_bytes": manager.database_bytes,
    })
}
