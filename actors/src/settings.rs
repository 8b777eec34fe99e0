//! What the daemon's configuration decides for the engine.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nexus_host::resource::Ground;
use nexus_model::{Id, InstanceId};
use nexus_store::Bounds;

/// Folders of one Nexus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Images and assets, and workspaces unless they are moved.
    pub data: PathBuf,
    /// Workspaces.
    pub workspaces: PathBuf,
    /// Consoles of VMs.
    pub logs: PathBuf,
    /// Sockets and what belongs to a run of a VM. Its path must be short: a Unix socket's ends at 107 bytes.
    pub runtime: PathBuf,
}

impl Folders {
    /// Where images are.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Where assets are.
    #[must_use]
    pub fn assets(&self) -> PathBuf {
        self.data.join("assets")
    }

    /// What belongs to runs of VMs.
    #[must_use]
    pub fn vm_runtimes(&self) -> PathBuf {
        self.runtime.join("vm")
    }

    /// What belongs to one run of a VM.
    #[must_use]
    pub fn vm_runtime(&self, vm: Id) -> PathBuf {
        self.vm_runtimes().join(vm.to_string())
    }

    /// What is kept of a VM between its runs.
    #[must_use]
    pub fn vm_logs(&self, vm: Id) -> PathBuf {
        self.logs.join(vm.to_string())
    }
}

/// What the engine must know before it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which Nexus this is.
    pub instance: InstanceId,
    /// Where things are.
    pub folders: Folders,
    /// The store's file.
    pub database: PathBuf,
    /// The guest agent as a host program, for the `process` driver.
    pub agent: PathBuf,
    /// Where to look for VMMs, and which may be used.
    pub vmm: nexus_host::vmm::VmmConfig,
    /// Host paths given by a caller must lie below one of these.
    pub allowed_paths: Vec<PathBuf>,
    /// How long a guest may take to stop before its VMM is killed.
    pub stop_timeout: Duration,
    /// How many VMs are started at once when the daemon starts; at least one is.
    pub autostart_parallel: usize,
    /// How large a console's log may grow before its older half is dropped.
    pub console_max_bytes: u64,
    /// Between two heartbeats of a guest; three misses are `unreachable`.
    pub heartbeat: Duration,
    /// How long a finished job stays on the bus.
    pub job_retention: Duration,
    /// How much is remembered of what is over.
    pub history: Bounds,
    /// How long something must have been without an owner before it is removed.
    pub orphan_grace: Duration,
    /// Says how long this machine has slept since it booted.
    pub slept: fn() -> Duration,
}

impl Settings {
    /// Where there may be something of this Nexus.
    pub(crate) fn ground(&self) -> Ground {
        let Folders { data, workspaces, logs, runtime } = &self.folders;
        let state = self.database.parent().unwrap_or_else(|| Path::new("."));
        Ground {
            instance: self.instance,
            state: state.to_owned(),
            files: nexus_store::files(&self.database),
            roots: [state, data, workspaces, logs, runtime].map(Path::to_owned).into(),
            runtimes: self.folders.vm_runtimes(),
            consoles: logs.clone(),
            workspaces: workspaces.clone(),
            images: self.folders.images(),
            assets: self.folders.assets(),
            devices: "/sys/class/net".into(),
        }
    }
}
