//! A machine that runs for one test and is gone after it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nexus_host::{
    unit::{ExitRecord, Keeper, Started, UnitSpec},
    vmm::{MachinePlan, MachineState, VmmConfig, VmmDriver, VmmError, Vmms},
};
use nexus_model::{Id, InstanceId};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::guest::{GuestFiles, build_dir, not_run};

/// Ten times what a start in plain emulation takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Held by the machine whose CPU is emulated: that takes a real one, and the guest's clocks take it ill to share.
static TURN: Mutex<()> = Mutex::const_new(());

/// A machine that is not started yet.
pub(crate) struct Machine {
    pub(crate) plan: MachinePlan,
    pub(crate) driver: Arc<dyn VmmDriver>,
    keeper: Keeper,
    name: String,
    unit_dir: PathBuf,
    dir: TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// A machine that runs. Dropping it kills it.
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(crate) started: Started,
}

/// The VMMs of this machine, with the sidecar that `make` built.
pub(crate) fn vmms() -> Vmms {
    let sidecar = build_dir().join("tools/bin/vhost-device-vsock");
    Vmms::detect(&VmmConfig {
        vhost_device_vsock: Some(sidecar).filter(|sidecar| sidecar.is_file()),
        allow_process: true,
        ..VmmConfig::default()
    })
}

/// QEMU's driver; none, with the reason printed, where this machine can't have it.
pub(crate) fn qemu() -> Option<Arc<dyn VmmDriver>> {
    vmms().driver(nexus_model::vm::VmmKind::Qemu).map_err(|error| not_run(&error.to_string())).ok()
}

impl Machine {
    /// A machine with QEMU whose init is that shell script. None where this machine can't run one.
    pub(crate) async fn qemu(init: &str) -> Option<Self> {
        let (files, driver) = (GuestFiles::find()?, qemu()?);
        let turn = TURN.lock().await;
        let machine = Self::new(driver, |dir| MachinePlan {
            kernel: files.kernel.clone(),
            initrd: files.initrd.clone(),
            disk: Some(files.disk(dir, init)),
            ..bare(dir)
        });
        Some(Self { _turn: Some(turn), ..machine.await })
    }

    pub(crate) async fn new(driver: Arc<dyn VmmDriver>, plan: impl FnOnce(&Path) -> MachinePlan) -> Self {
        let dir = tempfile::Builder::new().prefix("nexus-vmm-").tempdir().unwrap();
        let plan = plan(dir.path());
        let unit_dir = dir.path().join("unit");
        fs::create_dir_all(&plan.runtime_dir).unwrap();
        let keeper = Keeper::detect(env!("CARGO_BIN_EXE_nexus-shim").into(), None).await;
        let name = format!("nexus-{}-{}", InstanceId::random().unwrap(), plan.vm);
        Self { plan, driver, keeper, name, unit_dir, dir, _turn: None }
    }

    /// Prepares it, starts its processes and boots it.
    pub(crate) async fn start(self) -> Running {
        self.try_start().await.unwrap()
    }

    /// The same, where the VMM may refuse the machine.
    pub(crate) async fn try_start(self) -> Result<Running, VmmError> {
        let launch = self.driver.prepare(&self.plan)?;
        let spec = UnitSpec {
            name: self.name.clone(),
            description: "a test's machine".to_owned(),
            runtime_dir: self.unit_dir.clone(),
            launch,
            memory_max_bytes: None,
        };
        let started = self.keeper.start(&spec).await.unwrap();
        let running = Running { machine: self, started };
        running.machine.driver.boot(&running.machine.plan, &running.started.leader).await?;
        Ok(running)
    }

    /// What the console has shown so far, the last part of it when it is long.
    pub(crate) fn console(&self) -> String {
        fs::read(&self.plan.console_log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// The folder that goes with the machine.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Running {
    /// Waits for a text on the console.
    pub(crate) async fn sees(&self, text: &str) {
        let start = Instant::now();
        while !self.machine.console().contains(text) {
            assert!(start.elapsed() < PATIENCE, "no `{text}` on the console:\n{}", self.machine.console());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a state.
    pub(crate) async fn reaches(&self, state: MachineState) {
        let start = Instant::now();
        let (driver, plan) = (&self.machine.driver, &self.machine.plan);
        while driver.state(plan, &self.started.leader).await.unwrap() != state {
            assert!(start.elapsed() < PATIENCE, "it never became {state:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the machine has ended by itself.
    pub(crate) async fn end(&self) -> ExitRecord {
        let leader = nexus_host::process::ProcessWatch::open(&self.started.leader).unwrap();
        if let Some(leader) = leader {
            let ended = tokio::time::timeout(PATIENCE, leader.exited()).await;
            ended.unwrap_or_else(|_| panic!("it did not end:\n{}", self.machine.console())).unwrap();
        }
        self.machine.keeper.ended(&self.machine.name, &self.machine.unit_dir).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The kernel kills the rest along with the keeper.
        for process in [&self.started.leader, &self.started.keeper] {
            let _ = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

/// A plan with everything but a kernel, in that folder.
pub(crate) fn bare(dir: &Path) -> MachinePlan {
    MachinePlan {
        vm: Id::random().unwrap(),
        name: "test".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 128 << 20,
        kernel: dir.join("vmlinuz"),
        kernel_elf: None,
        initrd: None,
        kernel_args: String::new(),
        disk: None,
        cid: 3,
        runtime_dir: dir.join("unit/s"),
        console_log: dir.join("console.log"),
        console_max_bytes: 256 * 1024,
        agent: env::current_exe().unwrap(),
    }
}
