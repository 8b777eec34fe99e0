//! The daemon's life.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use nexus_actors::{Engine, Folders, Settings, snapshot::ManagerSnapshot};
use nexus_host::{
    storage,
    unit::{Keeper, KeeperKind},
    vmm::{VmmConfig, Vmms},
};
use nexus_store::Store;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    runtime::{Builder, Handle},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::{info, warn};

use crate::{
    arguments::Arguments,
    bus::{self, BusEnd},
    config::Config,
    folders::XdgFolders,
    logging::Log,
    programs::Programs,
    watchdog,
};

/// How long a finished job stays on the bus.
const JOB_RETENTION: std::time::Duration = std::time::Duration::from_secs(60);

/// How long the end waits for what is under way.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The bus has threads of its own. When many VMs die at once, hundreds of tasks of their actors want to run, and each of them
/// forks, reads records and writes files; whoever asks for a property would wait behind all of them, several times over.
/// Two, so that a call that takes long keeps nobody from a property either.
const BUS_THREADS: usize = 2;

/// Runs until a signal ends it, or something that it can't go on without.
///
/// # Errors
/// What that was.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let xdg = XdgFolders::from_environment()?;
    let file = arguments.config.as_ref().unwrap_or(&xdg.config_file);
    let config = Config::read(file, arguments.config.is_some())?;
    if arguments.check_config {
        #[expect(clippy::print_stdout, reason = "this is what was asked for")]
        {
            println!("# {}: good\n{}", file.display(), config.to_yaml()?.trim_end());
        }
        return Ok(());
    }
    let log = Log::begin(&arguments.log)?;
    raise_descriptor_limit();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let bus_runtime =
        Builder::new_multi_thread().worker_threads(BUS_THREADS).thread_name("bus").enable_all().build()?;
    runtime.block_on(serve(&xdg, config, log, bus_runtime.handle()))
}

async fn serve(xdg: &XdgFolders, config: Config, log: Arc<Log>, bus_runtime: &Handle) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Before anything is made: without a bus there is nothing to do.
    let bus = bus_runtime.spawn(bus::join()).await??;
    xdg.make()?;
    let programs = Programs::find()?;
    let shim = programs.shim.clone();
    let backend = config.storage.backend;
    let (settings, manager) = settle(xdg, config, programs)?;
    let vmms = Vmms::detect(&settings.vmm);
    let storage = storage::detect(&settings.folders.workspaces, backend)?;
    // It has a connection of its own: the other one ends whenever the bus' actor does.
    let keeper = Keeper::detect(shim, Some(bus::address()?)).await;
    let manager = ManagerSnapshot { vmm_available: vmms.available(), storage_backend: storage.kind(), ..manager };
    info!(
        "nexusd {} begins: instance {}, {} storage in {}, VMs by {}, held by {}",
        env!("CARGO_PKG_VERSION"),
        settings.instance,
        manager.storage_backend,
        manager.storage_path.display(),
        manager.vmm_available.iter().map(|vmm| vmm.as_str()).collect::<Vec<_>>().join(", "),
        if keeper.kind() == KeeperKind::Systemd { "the systemd user manager" } else { "shims of their own" },
    );
    let (named, name) = oneshot::channel();
    let child = bus::child(bus, log, named, bus_runtime);
    let (engine, mut tree) = Engine::start(settings, manager, vmms, keeper, storage, Some(child)).await?;

    let served = async {
        match name.await {
            Ok(BusEnd::Named) => {}
            Ok(BusEnd::Refused(error)) => return Err(error),
            Err(_) => bail!("the bus was given up before the name was taken"),
        }
        watchdog::notify(&[NotifyState::Ready, NotifyState::Status("running")]);
        watchdog::begin(engine.clone(), Handle::current())?;
        engine.autostart().await?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let end = tokio::select! {
        error = served => error,
        reason = tree.ended() => Err(anyhow!("the supervision tree has ended: {reason}")),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    watchdog::notify(&[NotifyState::Stopping]);
    info!("nexusd ends; VMs run on");
    engine.drain();
    engine.jobs_ended(DRAIN).await;
    if tokio::time::timeout(std::time::Duration::from_secs(30), tree.shut_down()).await.is_err() {
        warn!("the supervision tree did not end in time");
    }
    end
}

/// What the engine must know, with the store looked at once, so that what is wrong with it is said before anything runs.
fn settle(xdg: &XdgFolders, config: Config, programs: Programs) -> anyhow::Result<(Settings, ManagerSnapshot)> {
    let database = xdg.state.join("nexus.db");
    let store = Store::open(&database)?;
    let (instance, statistics) = (store.instance(), store.statistics()?);
    drop(store);
    let folders = Folders {
        data: xdg.data.clone(),
        workspaces: config.storage.workspaces.clone().unwrap_or_else(|| xdg.data.join("workspaces")),
        logs: xdg.state.join("vm"),
        runtime: xdg.runtime.clone(),
    };
    let mut allowed_paths = vec![xdg.data.clone()];
    allowed_paths.extend(xdg.home.clone());
    allowed_paths.extend(config.paths.allow.iter().cloned());
    let allowed_paths = allowed_paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let manager = ManagerSnapshot {
        vmm_available: Vec::new(),
        storage_path: folders.workspaces.clone(),
        storage_backend: nexus_model::BackendKind::Copy,
        database_path: database.clone(),
        schema_version: statistics.schema_version,
        table_count: statistics.table_count,
        default_kernel: None,
        draining: false,
    };
    let settings = Settings {
        instance,
        folders,
        database,
        agent: programs.agent,
        vmm: VmmConfig {
            firecracker: config.vmm.firecracker,
            qemu: config.vmm.qemu,
            vhost_device_vsock: config.vmm.vhost_device_vsock.or(programs.vhost_device_vsock),
            allow_process: config.vmm.allow_process,
        },
        allowed_paths,
        stop_timeout: config.vm.stop_timeout(),
        autostart_parallel: config.vm.autostart_parallel,
        console_max_bytes: config.vm.console_max_bytes,
        heartbeat: config.vm.heartbeat(),
        job_retention: JOB_RETENTION,
        history: config.history.bounds(),
        orphan_grace: config.reaper.grace(),
        slept: nexus_host::process::slept,
    };
    Ok((settings, manager))
}

/// Every VM takes a few descriptors, and the usual soft limit is for programs that use `select(2)`.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("the limit of open descriptors could not be raised: {error}");
    }
}
