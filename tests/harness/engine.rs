//! An engine without a bus.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nexus_actors::{
    Engine, Error, Folders, ImportAsset, ImportImage, Origin, Settings, Tree,
    snapshot::{JobId, JobSnapshot, ManagerSnapshot, VmSnapshot},
};
use nexus_host::{
    storage,
    unit::Keeper,
    vmm::{VmmConfig, Vmms},
};
use nexus_model::{
    AssetKind, BackendKind, Id, JobState, Name,
    vm::{VmSpec, VmState, VmmChoice},
};
use nexus_store::{Bounds, Store};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::{guest::GuestParts, init::Init, program};

/// Ten times what was ever seen, and then some: the machines are noisy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test, but for those that change it.
const ORPHAN_GRACE: Duration = Duration::from_secs(3600);

/// An engine over folders of its own. Its VMs are plain processes, and end with it.
pub struct TestEngine {
    /// The engine.
    pub engine: Engine,
    tree: Option<Tree>,
    change: fn(&mut Settings),
    /// Where everything of it is.
    pub folder: Arc<TempDir>,
}

impl TestEngine {
    /// A new one.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// A new one whose settings are changed so, and those of the ones after it.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn start_with(change: fn(&mut Settings)) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .try_init();
        let folder = tempfile::Builder::new().prefix("nx").tempdir().expect("a temporary folder");
        Self::start_in(Arc::new(folder), change).await
    }

    /// Another one over the same folders, as after a restart of the daemon.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| ()).await
    }

    /// Another one over the same folders, with the store changed in between, as if the daemon had been killed elsewhere.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn restart_after(mut self, meanwhile: impl FnOnce(&mut Store)) -> Self {
        let (folder, change) = (self.folder.clone(), self.change);
        self.shut_down().await;
        meanwhile(&mut Store::open(&Self::database(&folder)).expect("the store opens"));
        // Only what was said to be left running may be: the folder decides, not this value.
        std::mem::forget(self);
        Self::start_in(folder, change).await
    }

    /// Another one over the same folders, for which the one VM that there is has failed so often that its policy waits 8 s
    /// before the next start: long enough for a test to do something meanwhile.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn restart_with_failures(self) -> Self {
        self.restart_after(|store| {
            for mut row in store.vms().expect("the store reads") {
                row.recent_failures = vec![SystemTime::now().into(); 3];
                store.update_vm(&row, None).expect("the store writes");
            }
        })
        .await
    }

    /// Ends the engine and leaves its VMs running.
    pub async fn shut_down(&mut self) {
        if let Some(tree) = self.tree.take() {
            tree.shut_down().await;
        }
    }

    /// The store's file, of an engine over that folder.
    #[must_use]
    pub fn database(folder: &TempDir) -> PathBuf {
        folder.path().join("state/nexus.db")
    }

    async fn start_in(folder: Arc<TempDir>, change: fn(&mut Settings)) -> Self {
        let root = folder.path();
        let database = Self::database(&folder);
        let store = Store::open(&database).expect("the store opens");
        let (instance, statistics) = (store.instance(), store.statistics().expect("the store counts"));
        drop(store);
        let folders = Folders {
            data: root.join("data"),
            workspaces: root.join("workspaces"),
            logs: root.join("logs"),
            runtime: root.join("run"),
        };
        fs::create_dir_all(&folders.data).expect("a folder");
        let sidecar = GuestParts::folder().with_file_name("tools").join("bin/vhost-device-vsock");
        let vmm = VmmConfig {
            allow_process: true,
            vhost_device_vsock: sidecar.is_file().then_some(sidecar),
            ..VmmConfig::default()
        };
        let vmms = Vmms::detect(&vmm);
        let storage = storage::detect(&folders.workspaces, None).expect("a storage backend");
        let keeper = Keeper::detect(program("nexus-shim"), None).await;
        let manager = ManagerSnapshot {
            vmm_available: vmms.available(),
            storage_path: folders.workspaces.clone(),
            storage_backend: BackendKind::Copy,
            database_path: database.clone(),
            schema_version: statistics.schema_version,
            table_count: statistics.table_count,
            default_kernel: None,
            draining: false,
        };
        let mut settings = Settings {
            instance,
            folders,
            database,
            agent: program("guest-agent"),
            vmm,
            // Without guest parts there is no such folder, and nothing to import from it.
            allowed_paths: [root, &GuestParts::folder()].iter().filter_map(|path| path.canonicalize().ok()).collect(),
            stop_timeout: Duration::from_secs(20),
            autostart_parallel: 2,
            console_max_bytes: 1 << 20,
            heartbeat: Duration::from_millis(500),
            job_retention: Duration::from_secs(60),
            history: Bounds::default(),
            orphan_grace: ORPHAN_GRACE,
            slept: nexus_host::process::slept,
        };
        change(&mut settings);
        let (engine, tree) =
            Engine::start(settings, manager, vmms, keeper, storage, None).await.expect("the engine starts");
        assert!(engine.ready(PATIENCE).await, "the engine is not ready");
        Self { engine, tree: Some(tree), change, folder }
    }

    /// Who asks, in a test.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn origin() -> Origin {
        Origin {
            request: Id::random().expect("random"),
            sender: "test".to_owned(),
            reason: String::new(),
            bound: false,
        }
    }

    /// Creates a VM that is a plain process.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn create(&self, name: &str, change: impl FnOnce(&mut VmSpec)) -> Result<Name, Error> {
        let mut spec = VmSpec { vmm: VmmChoice::Process, ..VmSpec::default() };
        change(&mut spec);
        let name = name.parse().expect("a name");
        self.engine.create_vm(&Self::origin(), Some(name), spec).await
    }

    /// Imports the kernel, the initrd and the root file system that `make guest` leaves, as image `guest`. What it
    /// returns is for the test to hold while its VMs run: an emulated CPU takes a real one, and the guest's clocks take it
    /// ill to share. None, with the reason printed, when the parts are not there and need not be.
    ///
    /// # Panics
    /// When they can't be imported, or must be there (`NEXUS_REQUIRE_ALL=1`, as in `make test`) and are not.
    pub async fn import_guest(&self) -> Option<MutexGuard<'static, ()>> {
        self.import(GuestParts::find()?).await
    }

    /// As [`import_guest`](Self::import_guest), with busybox as the guest's init, which starts the agent as a service, and
    /// again when it ends.
    ///
    /// # Panics
    /// As [`import_guest`](Self::import_guest).
    pub async fn import_guest_under_busybox(&self) -> Option<MutexGuard<'static, ()>> {
        self.import_guest_under(Init::Busybox).await
    }

    /// As [`import_guest`](Self::import_guest), under another init, as `dist/guest` has it.
    ///
    /// # Panics
    /// As [`import_guest`](Self::import_guest).
    pub async fn import_guest_under(&self, init: Init) -> Option<MutexGuard<'static, ()>> {
        let folder = tempfile::tempdir_in(self.folder.path()).expect("a folder");
        self.import(init.guest_in(folder.path())?).await
    }

    async fn import(&self, guest: GuestParts) -> Option<MutexGuard<'static, ()>> {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let origin = Self::origin();
        let version = Some("test".to_owned());
        for (kind, path) in [(AssetKind::Kernel, guest.kernel), (AssetKind::Initrd, guest.initrd)] {
            let request = ImportAsset { kind, path, version: version.clone(), digest: None, default: false };
            let job = self.engine.import_asset(&origin, request).await.expect("the import begins");
            let job = self.job(job).await;
            assert_eq!(job.state, JobState::Done, "{:?}", job.error);
        }
        let name = "guest".parse().expect("a name");
        let request = ImportImage { path: guest.rootfs, name, size_bytes: None };
        let job = self.engine.import_image(&origin, request).await.expect("the import begins");
        let job = self.job(job).await;
        assert_eq!(job.state, JobState::Done, "{:?}", job.error);
        Some(turn)
    }

    /// Waits for the end of a job.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn job(&self, job: JobId) -> JobSnapshot {
        let mut picture = self.engine.board().jobs().watch(&job).expect("the job is there");
        let ended = tokio::time::timeout(PATIENCE, picture.wait_for(|job| job.state.is_final())).await;
        JobSnapshot::clone(&ended.expect("the job ends").expect("the job stays"))
    }

    /// Starts a VM and waits for its agent.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_vm(&self, name: &Name) -> Arc<VmSnapshot> {
        let job = self.engine.start_vm(&Self::origin(), name).await.expect("the start begins");
        let job = self.job(job).await;
        assert_eq!(job.state, JobState::Done, "{:?}", job.error);
        self.wait(name, |vm| vm.guest.is_some()).await
    }

    /// Waits until a VM is as wanted.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait(&self, name: &Name, wanted: impl FnMut(&Arc<VmSnapshot>) -> bool) -> Arc<VmSnapshot> {
        let mut picture = self.engine.board().vms().watch(name).expect("the VM is there");
        let reached = tokio::time::timeout(PATIENCE, picture.wait_for(wanted)).await;
        match reached {
            Ok(vm) => vm.expect("the VM stays").clone(),
            Err(_) => panic!("VM {name} does not get there: {:#?}", self.engine.board().vms().get(name)),
        }
    }

    /// Waits until a VM is no more.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn gone(&self, name: &Name) {
        let Some(mut picture) = self.engine.board().vms().watch(name) else { return };
        let gone = tokio::time::timeout(PATIENCE, async { while picture.changed().await.is_ok() {} }).await;
        assert!(gone.is_ok(), "VM {name} stays: {:#?}", self.engine.board().vms().get(name));
    }

    /// The VM as it is now.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn vm(&self, name: &Name) -> Arc<VmSnapshot> {
        self.engine.board().vms().get(name).expect("the VM is there")
    }

    /// The VM's state now.
    #[must_use]
    pub fn state(&self, name: &Name) -> VmState {
        self.vm(name).lifecycle.state()
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        for vm in self.engine.board().vms().all() {
            if let Ok(pid @ 1..) = i32::try_from(vm.leader) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}
