//! What a test of units plays in: a folder, a keeper, and no process left when it is over.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nexus_host::{
    process::{ProcessWatch, identify},
    unit::{ExitRecord, Keeper, KeeperKind, Launch, Program, ProgramRole, Sandbox, Started, UnitSpec, record::Records},
    vsock::Endpoint,
};
use nexus_model::{InstanceId, ProcessIdentity};
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::manager::Manager;

/// Ten times what the slowest step took.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_nexus-shim");

pub(crate) struct Scene {
    // Dropped in this order: what the manager started is gone before the folder is.
    manager: Option<Manager>,
    pub(crate) keeper: Keeper,
    pub(crate) instance: InstanceId,
    folder: TempDir,
    count: Cell<u32>,
}

impl Scene {
    /// Without a manager.
    pub(crate) async fn shim() -> Self {
        Self::new(None).await
    }

    /// With a systemd user manager; none where there can't be one.
    pub(crate) async fn systemd() -> Option<Self> {
        let manager = Manager::start().await?;
        Some(Self::new(Some(manager)).await)
    }

    async fn new(manager: Option<Manager>) -> Self {
        let folder = tempfile::Builder::new().prefix("nexus-unit-").tempdir().unwrap();
        let keeper = detect(manager.as_ref()).await;
        let expected = if manager.is_some() { KeeperKind::Systemd } else { KeeperKind::Shim };
        assert_eq!(keeper.kind(), expected);
        Self { manager, keeper, instance: InstanceId::random().unwrap(), folder, count: Cell::new(0) }
    }

    /// A keeper that knows nothing of what the other did, as a new nexusd has.
    pub(crate) async fn another_keeper(&self) -> Keeper {
        detect(self.manager.as_ref()).await
    }

    pub(crate) fn manager(&self) -> Option<&Manager> {
        self.manager.as_ref()
    }

    pub(crate) fn manager_mut(&mut self) -> Option<&mut Manager> {
        self.manager.as_mut()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A unit with a runtime folder and, in it, a folder that its programs can write.
    pub(crate) fn unit(&self, programs: Vec<Program>) -> Unit {
        let number = self.count.replace(self.count.get() + 1);
        let runtime_dir = self.folder.path().join(format!("{number:016x}"));
        let shared = runtime_dir.join("vmm");
        fs::create_dir_all(&shared).unwrap();
        let sandbox = Sandbox { read_only: vec![own_program()], read_write: vec![shared.clone()], devices: Vec::new() };
        let launch = Launch {
            programs,
            sandbox: Some(sandbox),
            working_directory: shared.clone(),
            endpoint: Endpoint::Hybrid { socket: shared.join("vsock.sock") },
        };
        let spec = UnitSpec {
            name: format!("nexus-{}-{number:016x}", self.instance),
            description: "a test".to_owned(),
            runtime_dir,
            launch,
            memory_max_bytes: Some(256 << 20),
        };
        Unit { spec, shared }
    }

    /// A unit of one shell, which runs `script` in the shared folder.
    pub(crate) fn shell(&self, script: &str) -> Unit {
        self.unit(vec![shell(ProgramRole::Vmm, script)])
    }

    pub(crate) async fn start(&self, unit: &Unit) -> Started {
        tokio::time::timeout(SOON, self.keeper.start(&unit.spec)).await.expect("it starts soon").unwrap()
    }

    /// Waits for the end of a leader as the machine does.
    pub(crate) async fn end(&self, unit: &Unit, started: &Started) -> ExitRecord {
        gone(&started.leader).await;
        self.keeper.ended(&unit.spec.name, &unit.spec.runtime_dir).await.unwrap()
    }

    /// Nothing of it is left: no process, no unit, no file.
    pub(crate) async fn assert_nothing_left(&self, unit: &Unit) {
        assert_eq!(self.keeper.list(self.instance).await.unwrap(), Vec::<String>::new());
        assert_eq!(files(&unit.spec.runtime_dir), ["vmm"]);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A test that failed may have left units; with a manager they go with it.
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let record = Records::open(&entry.path()).ok().flatten().and_then(|records| records.process().ok()?);
            let Some(record) = record else { continue };
            for process in [record.leader, record.keeper] {
                if identify(process.pid).ok().flatten().is_some_and(|found| found == process) {
                    let _ = kill(nix::unistd::Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL);
                }
            }
        }
    }
}

pub(crate) struct Unit {
    pub(crate) spec: UnitSpec,
    /// The folder that its programs can write, and begin in.
    pub(crate) shared: PathBuf,
}

impl Unit {
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn runtime_dir(&self) -> &Path {
        &self.spec.runtime_dir
    }

    /// Makes a pipe in the shared folder; what the shell reads from it blocks until [`Unit::let_go`].
    pub(crate) fn gate(&self) {
        nix::unistd::mkfifo(&self.shared.join("gate"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    pub(crate) async fn let_go(&self) {
        let gate = self.shared.join("gate");
        tokio::task::spawn_blocking(|| fs::write(gate, "go\n").unwrap()).await.unwrap();
    }

    /// Waits until a program has written a line to the pipe `name` of the shared folder, which is made here.
    pub(crate) fn told(&self, name: &str) -> impl Future<Output = String> + use<> {
        let path = self.shared.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        async {
            let read = tokio::task::spawn_blocking(|| fs::read_to_string(path).unwrap());
            tokio::time::timeout(SOON, read).await.expect("it tells soon").unwrap().trim_end().to_owned()
        }
    }
}

async fn detect(manager: Option<&Manager>) -> Keeper {
    let bus = match manager {
        Some(manager) => Some(manager.bus().await),
        None => None,
    };
    Keeper::detect(SHIM.into(), bus).await
}

pub(crate) fn shell(role: ProgramRole, script: &str) -> Program {
    program(role, &["/bin/sh", "-c", script])
}

pub(crate) fn program(role: ProgramRole, argv: &[&str]) -> Program {
    Program { role, argv: argv.iter().map(Into::into).collect(), env: Vec::new(), ready_socket: None, log: None }
}

/// This test's own program, which plays parts of its own in [`crate::stand_in`].
pub(crate) fn own_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Waits until a process is gone.
pub(crate) async fn gone(process: &ProcessIdentity) {
    if let Some(watch) = ProcessWatch::open(process).unwrap() {
        tokio::time::timeout(SOON, watch.exited()).await.expect("it ends soon").unwrap();
    }
}

pub(crate) fn signal(process: &ProcessIdentity, signal: Signal) {
    let watch = ProcessWatch::open(process).unwrap().expect("it lives");
    assert!(watch.signal(signal).unwrap());
}

/// Names in a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// The processes below one, in no order.
pub(crate) fn descendants(process: u32) -> Vec<ProcessIdentity> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        for child in fs::read_to_string(task.path().join("children")).unwrap_or_default().split_ascii_whitespace() {
            let child = child.parse().unwrap();
            found.extend(identify(child).unwrap());
            found.extend(descendants(child));
        }
    }
    found
}
