//! The engine: what there is one of, and the start of the tree.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use nexus_host::{
    storage::WorkspaceBackend,
    unit::Keeper,
    vmm::{HostCheck, Vmms},
};
use nexus_model::{
    ArtifactName, ErrorKind, EventKind, Id,
    restart::{Backoff, Intensity},
};
use nexus_store::{AssetRow, NewEvent, Statistics};
use ractor::ActorRef;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::{
    Error, Origin, Settings,
    asset::{self, AssetMessage},
    autostart::Autostarts,
    found::Found,
    image::{self, ImageMessage},
    jobs::Jobs,
    place,
    reaper::{self, Reaper},
    recorder::Recorder,
    registry::Registry,
    snapshot::{Board, JobId, ManagerSnapshot, ObjectRef},
    statuses,
    store::StoreHandle,
    subject::Subject,
    supervisor::{
        ActorSlot, ChildSpec, GiveUp, Root, RootEnd, StatusBoard, Strategy, SupervisorConfig, SupervisorMessage,
    },
    underway::Underway,
    vm::{self, FIRST_STREAM, VmContext, random_id},
    work::blocking,
    workspace::{self, WorkspaceContext},
};

/// The bus is started anew for ever: ten faults in 60 s, and it is the root's turn.
const BUS_BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10), jitter: 0.2 };
const BUS_INTENSITY: Intensity = Intensity { max: 10, window: Duration::from_secs(60) };
/// A sleep of this machine that is worth telling guests of: their clocks may be late by as much.
const NAP: Duration = Duration::from_secs(1);

/// A handle to the running engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// What there is one of.
pub struct Inner {
    pub(crate) settings: Settings,
    pub(crate) board: Board,
    pub(crate) statuses: StatusBoard,
    pub(crate) store: StoreHandle,
    pub(crate) recorder: Recorder,
    pub(crate) jobs: Jobs,
    pub(crate) reaper: Reaper,
    pub(crate) vmms: Vmms,
    pub(crate) keeper: Keeper,
    pub(crate) storage: Arc<dyn WorkspaceBackend>,
    pub(crate) vms: Registry<VmContext>,
    pub(crate) workspaces: Registry<WorkspaceContext>,
    pub(crate) autostarts: Autostarts,
    /// Turns of the starts that the daemon makes by itself when it comes up.
    pub(crate) start_turns: Semaphore,
    pub(crate) removals: Underway<ObjectRef>,
    pub(crate) imports: Underway<Id>,
    /// Every asset's row, kept by their actor.
    pub(crate) assets_now: RwLock<BTreeMap<ArtifactName, AssetRow>>,
    pub(crate) assets: ActorSlot<AssetMessage>,
    /// Whether their actor was told already to look who uses them.
    pub(crate) assets_stale: AtomicBool,
    pub(crate) images: ActorSlot<ImageMessage>,
    pub(crate) root: OnceLock<ActorRef<SupervisorMessage>>,
    pub(crate) vms_supervisor: ActorSlot<SupervisorMessage>,
    pub(crate) workspaces_supervisor: ActorSlot<SupervisorMessage>,
    /// Number of the next stream that is shown, of whichever VM: no path of one is ever another one's.
    pub(crate) next_stream: AtomicU32,
    pub(crate) heartbeat: watch::Sender<u64>,
    /// How long this machine had slept when it was last noticed to have done so.
    pub(crate) slept: watch::Sender<Duration>,
    pub(crate) found: Found,
    draining: AtomicBool,
}

impl std::ops::Deref for Engine {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("instance", &self.settings.instance).finish_non_exhaustive()
    }
}

/// The running tree. Its end is the end of the daemon's work.
pub struct Tree {
    root: ActorRef<SupervisorMessage>,
    jobs: Jobs,
    recorder: Recorder,
    store: StoreHandle,
    ended: BoxFuture<'static, RootEnd>,
}

/// Makes the child that shows the engine on the bus, which this crate knows nothing about.
pub type BusChild = Box<dyn FnOnce(Engine) -> ChildSpec + Send>;

impl Engine {
    /// Starts the tree. It populates itself: [`ready`](Self::ready) tells when all rows are adopted. Must be called in
    /// a tokio runtime.
    ///
    /// # Errors
    /// When the root's actor can't be started.
    pub async fn start(
        settings: Settings,
        manager: ManagerSnapshot,
        vmms: Vmms,
        keeper: Keeper,
        storage: Arc<dyn WorkspaceBackend>,
        bus: Option<BusChild>,
    ) -> Result<(Self, Tree), Error> {
        let ground = settings.ground();
        if let Err(error) = blocking(move || Ok(ground.claim()?)).await {
            warn!("what nothing owns is shown and never removed: {}", error.text());
        }
        let engine = Self::assemble(settings, manager, vmms, keeper, storage);
        let mut children = engine.children();
        children.extend(bus.map(|bus| bus_child(bus(engine.clone()))));
        let config = SupervisorConfig { strategy: Strategy::RestForOne, children };
        let root = Root::spawn("root", config, engine.statuses.clone())
            .await
            .map_err(|error| Error::caused(ErrorKind::Internal, "the tree could not be started", error))?;
        let _ = engine.root.set(root.actor.clone());
        let tree = Tree {
            root: root.actor.clone(),
            jobs: engine.jobs.clone(),
            recorder: engine.recorder.clone(),
            store: engine.store.clone(),
            ended: Box::pin(root.ended()),
        };
        Ok((engine, tree))
    }

    /// All there is one of, before anything of it runs under supervision.
    pub(crate) fn assemble(
        settings: Settings,
        manager: ManagerSnapshot,
        vmms: Vmms,
        keeper: Keeper,
        storage: Arc<dyn WorkspaceBackend>,
    ) -> Self {
        let board = Board::new(manager);
        let store = StoreHandle::new();
        let recorder = Recorder::start(store.clone(), daemon_started());
        let (sink, changes) = mpsc::unbounded_channel();
        tokio::spawn(statuses::carry(board.clone(), recorder.clone(), changes));
        let heartbeat = watch::Sender::new(0);
        let slept = watch::Sender::new((settings.slept)());
        tokio::spawn(beat(heartbeat.clone(), slept.clone(), settings.slept, settings.heartbeat));
        let reaper = Reaper::new();
        Self(Arc::new(Inner {
            statuses: StatusBoard::new(sink),
            store,
            recorder,
            jobs: Jobs::new(reaper.clone()),
            reaper,
            vmms,
            keeper,
            storage,
            vms: Registry::new(),
            workspaces: Registry::new(),
            autostarts: Autostarts::default(),
            start_turns: Semaphore::new(settings.autostart_parallel.max(1)),
            removals: Underway::default(),
            imports: Underway::default(),
            assets_now: RwLock::default(),
            assets: ActorSlot::new(),
            assets_stale: AtomicBool::new(false),
            images: ActorSlot::new(),
            root: OnceLock::new(),
            vms_supervisor: ActorSlot::new(),
            workspaces_supervisor: ActorSlot::new(),
            next_stream: AtomicU32::new(FIRST_STREAM),
            heartbeat,
            slept,
            found: Found::default(),
            draining: AtomicBool::new(false),
            settings,
            board,
        }))
    }

    /// The children of the root in their order, but for the bus.
    pub(crate) fn children(&self) -> Vec<ChildSpec> {
        vec![
            self.store.child_spec(self.settings.database.clone(), self.settings.history),
            asset::child_spec(self),
            image::child_spec(self),
            self.workspaces_child(),
            self.vms_child(),
            self.jobs.child_spec(self.board.clone(), self.store.clone(), self.settings.job_retention),
            reaper::child_spec(self),
        ]
    }

    /// Every object's newest picture, and how they change.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Returns true once every VM and workspace of the store has its actor and was looked at, false when `deadline` comes
    /// first.
    pub async fn ready(&self, deadline: Duration) -> bool {
        let populated = async {
            // The last one to start: all before it have read their rows.
            self.jobs.up(deadline).await;
            for vm in self.vms.all() {
                vm.machine.current(deadline).await;
            }
            for workspace in self.workspaces.all() {
                workspace.up(deadline).await;
            }
            // Images come before workspaces, and show which were made from them.
            self.refresh_images().await;
        };
        let end = tokio::time::Instant::now() + deadline;
        let ready = tokio::time::timeout_at(end, populated).await.is_ok();
        if let Some(detail) = self.found.tell(ready) {
            info!("nexusd is ready: {detail}");
            self.recorder
                .event(NewEvent { detail, ..NewEvent::now(EventKind::DaemonReady, Subject::Daemon.to_string()) });
        }
        ready
    }

    /// Asks a job to end. Returns when it was told, not when it has ended: follow its picture for that.
    ///
    /// # Errors
    /// `NotFound`; `InvalidState` when it has ended or can't be cancelled.
    pub async fn cancel_job(&self, job: JobId) -> Result<(), Error> {
        self.jobs.cancel(job).await
    }

    /// What Nexus needs of this machine, and whether it is there.
    ///
    /// # Errors
    /// When the look could not be taken.
    pub async fn check_host(&self) -> Result<Vec<HostCheck>, Error> {
        let config = self.settings.vmm.clone();
        blocking(move || Ok(Vmms::detect(&config).checks())).await
    }

    /// Schema, tables and size of the store.
    ///
    /// # Errors
    /// `StorageFailed`.
    pub async fn database(&self) -> Result<Statistics, Error> {
        self.store.call(|store| store.statistics()).await
    }

    /// What the store takes on the disk; 0 when its files can't be looked at. Two system calls.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        nexus_store::database_bytes(&self.settings.database).unwrap_or_default()
    }

    /// What can still be written where workspaces are; 0 when the file system does not say. One system call.
    #[must_use]
    pub fn storage_free_bytes(&self) -> u64 {
        self.storage.free_bytes().unwrap_or_default()
    }

    /// Takes no new work from now on. VMs run on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.recorder.event(NewEvent::now(EventKind::DaemonStopping, Subject::Daemon.to_string()));
        self.board.update_manager(|manager| manager.draining = true);
    }

    pub(crate) fn check_accepting(&self) -> Result<(), Error> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::ShuttingDown, "the daemon is going down: try again once it is back"));
        }
        Ok(())
    }

    /// What the daemon does by itself.
    pub(crate) fn own_origin() -> Result<Origin, Error> {
        Ok(Origin { request: random_id()?, sender: "nexusd".to_owned(), reason: String::new(), bound: false })
    }

    /// Removes what was being copied or removed when a daemon ended.
    async fn sweep_workspaces(&self) {
        let (storage, folder) = (self.storage.clone(), self.settings.folders.workspaces.clone());
        match blocking(move || Ok(storage.sweep(&folder)?)).await {
            Ok(left) => left.iter().for_each(|path| info!("removed {}: an unfinished workspace", path.display())),
            Err(error) => warn!("what is left of unfinished workspaces stays: {}", error.text()),
        }
    }

    /// Returns when no job is under way, or `deadline` is over.
    pub async fn jobs_ended(&self, deadline: Duration) {
        let all_ended = async {
            for job in self.board.jobs().all() {
                if let Some(mut picture) = self.board.jobs().watch(&job.id) {
                    let _ = picture.wait_for(|job| job.state.is_final()).await;
                }
            }
        };
        let _ = tokio::time::timeout(deadline, all_ended).await;
    }

    fn workspaces_child(&self) -> ChildSpec {
        let (engine, slot) = (self.clone(), self.workspaces_supervisor.clone());
        ChildSpec::supervisor(place::WORKSPACES, move |_| {
            let engine = engine.clone();
            async move {
                engine.sweep_workspaces().await;
                // Before the workspaces, which show whose disk they are.
                for row in engine.store.call(|store| store.vms()).await.map_err(start_failed)? {
                    engine.vms.get_or_insert(&row.name, || VmContext::new(row.id, row.name.clone()));
                }
                let rows = engine.store.call(|store| store.workspaces()).await.map_err(start_failed)?;
                let child = |row| workspace::child_spec(&engine, &engine.restored_workspace(row));
                let children = rows.iter().map(child).collect();
                Ok(SupervisorConfig { strategy: Strategy::OneForOne, children })
            }
        })
        .published_in(&slot)
    }

    fn vms_child(&self) -> ChildSpec {
        let (engine, slot) = (self.clone(), self.vms_supervisor.clone());
        ChildSpec::supervisor(place::VMS, move |_| {
            let engine = engine.clone();
            async move {
                let rows = engine.store.call(|store| store.vms()).await.map_err(start_failed)?;
                let child = |row: &nexus_store::VmRow| {
                    let context = engine.vms.get_or_insert(&row.name, || VmContext::new(row.id, row.name.clone()));
                    vm::child_spec(&engine, &context)
                };
                let children = rows.iter().map(child).collect();
                Ok(SupervisorConfig { strategy: Strategy::OneForOne, children })
            }
        })
        .published_in(&slot)
    }
}

impl Tree {
    /// Ends the tree in order, the bus first. VMs run on.
    pub async fn shut_down(self) {
        // The store goes with the tree.
        self.recorder.written().await;
        self.store.conclude().await;
        let (reply, done) = oneshot::channel();
        let message = SupervisorMessage::Shutdown { reply: Some(reply.into()) };
        if self.root.send_message(message).is_ok() {
            let _ = done.await;
        }
        self.jobs.abort();
    }

    /// Waits for an end that nobody asked for. The text says why.
    pub async fn ended(&mut self) -> String {
        match (&mut self.ended).await {
            RootEnd::Shutdown => "it was shut down".to_owned(),
            RootEnd::GaveUp(gave_up) => gave_up.to_string(),
            RootEnd::Killed => "its root was killed".to_owned(),
        }
    }
}

/// The last child of the root, as far as its supervisor is concerned.
pub(crate) fn bus_child(spec: ChildSpec) -> ChildSpec {
    ChildSpec { backoff: BUS_BACKOFF, intensity: BUS_INTENSITY, give_up: GiveUp::Escalate, ..spec }
}

fn start_failed(error: Error) -> ractor::SpawnErr {
    ractor::SpawnErr::StartupFailed(Box::new(error))
}

/// That this process is the daemon now.
fn daemon_started() -> NewEvent {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let boot = nexus_host::process::boot_id().unwrap_or_else(|_| "unknown".to_owned());
    NewEvent {
        detail: format!("nexusd {version}, process {pid}, boot {boot}"),
        ..NewEvent::now(EventKind::DaemonStarted, Subject::Daemon.to_string())
    }
}

/// The one heartbeat of all guests, at which it is seen as well that this machine has slept.
async fn beat(heartbeat: watch::Sender<u64>, slept: watch::Sender<Duration>, clock: fn() -> Duration, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock();
        let nap = now.saturating_sub(*slept.borrow());
        if nap > NAP {
            info!("this machine has slept for {} s: guests are told how late it is", nap.as_secs());
            slept.send_replace(now);
        }
        heartbeat.send_modify(|beat| *beat += 1);
    }
}
