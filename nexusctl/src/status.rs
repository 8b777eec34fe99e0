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
    unwell: usize,
}

impl Counts {
    fn of(objects: &Objects) -> Self {
        let actors = objects.all.values().filter_map(|object| object.supervised.as_ref());
        Self {
            images: objects.images().len(),
            workspaces: objects.workspaces().len(),
            kernels: objects.assets().iter().filter(|asset| asset.kind == "kernel").count(),
            unwell: actors.filter(|actor| actor.health != "ok").count(),
        }
    }
}

fn fields(manager: &ManagerProperties, objects: &Objects) -> Fields {
    let counts = Counts::of(objects);
    let state = match counts.unwell {
        0 => manager.state.clone(),
        one @ 1 => format!("{}: {one} part is unwell, see nexusctl tree", manager.state),
        several => format!("{}: {several} parts are unwell, see nexusctl tree", manager.state),
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
        "unwell_count": counts.unwell,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::sample;

    #[test]
    fn says_where_everything_is_and_what_is_missing() {
        let manager = ManagerProperties {
            version: "0.1.0".to_owned(),
            api_revision: 1,
            features: Vec::new(),
            architecture: "x86_64".to_owned(),
            vmm_available: vec!["qemu".to_owned(), "process".to_owned()],
            state: "degraded".to_owned(),
            vm_count: 2,
            running_vm_count: 1,
            job_count: 0,
            committed_memory_bytes: 512 << 20,
            storage_path: "/data/nexus".to_owned(),
            storage_backend: "btrfs".to_owned(),
            storage_free_bytes: 12 << 30,
            database_path: "/state/nexus/nexus.db".to_owned(),
            schema_version: 1,
            table_count: 9,
            database_bytes: 96 << 10,
            default_kernel: sample::path("/"),
        };
        let mut objects = sample::objects(vec![sample::vm("web"), sample::vm("db")]);
        if let Some(actor) = objects.all.get_mut(&sample::path("/vm/db")).and_then(|vm| vm.supervised.as_mut()) {
            actor.health = "failed".to_owned();
        }
        assert_eq!(
            fields(&manager, &objects).to_string(),
            "\
State:       degraded: 1 part is unwell, see nexusctl tree
Version:     0.1.0, API revision 1
VMs:         2, 1 running with 512 MiB
Images:      0
Workspaces:  0
Kernels:     0: import one with nexusctl kernel import PATH
Jobs:        0 under way
VMMs:        qemu, process
Storage:     btrfs with 12 GiB free
             /data/nexus
Database:    schema 1, 9 tables, 96 KiB
             /state/nexus/nexus.db"
        );
    }
}
