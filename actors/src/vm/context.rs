//! What the actors of one VM share, and what outlives them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use nexus_host::{
    agent::{AgentClient, SpareKind},
    vsock::Endpoint,
};
use nexus_model::{
    Health, Id, Name, Timestamp,
    restart::{Backoff, Intensity},
    vm::VmFile,
};
use tokio::sync::watch;

use super::{
    connection, connection::ConnectionMessage, machine, machine::MachineMessage, spare, spare::SpareContext,
    statistics::Statistics, stream, streams::Streams,
};
use crate::{
    Engine,
    place::CONNECTIONS,
    supervisor::{ActorSlot, ChildSpec, GiveUp, Strategy, SupervisorConfig, SupervisorMessage},
};

/// A fault of the machine's actor: 50 ms to 5 s, 5 in 60 s and the VM is unmanaged, its VMM left running, and it is tried
/// again every 60 s: it may have been the disk that was full.
const MACHINE_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(5), jitter: 0.2 };
const MACHINE_INTENSITY: Intensity = Intensity { max: 5, window: Duration::from_secs(60) };
const MACHINE_RETRY: Duration = Duration::from_secs(60);
/// A connection that is lost is dialled again so. A fault of its actor the same; 10 in 60 s and it is failed, retried every 60 s.
pub(super) const CONNECTION_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10), jitter: 0.2 };
pub(super) const CONNECTION_INTENSITY: Intensity = Intensity { max: 10, window: Duration::from_secs(60) };
pub(super) const CONNECTION_RETRY: Duration = Duration::from_secs(60);
/// A fault of the connections' supervisor never reaches the machine beside it: 5 in 60 s and it is failed, retried every 60 s.
const CONNECTIONS_GIVE_UP: GiveUp = GiveUp::Retry { every: Duration::from_secs(60), health: Health::Failed };

/// Whether there is a guest to talk to, and where. The machine says so; connections follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Power {
    /// No guest.
    #[default]
    Off,
    /// A VMM runs.
    On {
        /// Counts the runs of the VM, so that a connection never takes a new guest for the old one.
        run: u64,
        /// Where its vsock is.
        endpoint: Endpoint,
        /// The Unix socket of it, for people.
        socket: Option<PathBuf>,
        /// What the agent wants to be told.
        token: Option<String>,
    },
}

/// What the actors of one VM share.
#[derive(Debug)]
pub(crate) struct VmContext {
    pub(crate) id: Id,
    pub(crate) name: Name,
    pub(crate) supervisor: ActorSlot<SupervisorMessage>,
    pub(crate) machine: ActorSlot<MachineMessage>,
    pub(crate) connections: ActorSlot<SupervisorMessage>,
    pub(crate) connection: ActorSlot<ConnectionMessage>,
    /// Its spare connections.
    pub(super) spares: [Arc<SpareContext>; SpareKind::ALL.len()],
    /// The streams that clients have.
    pub(super) streams: Streams,
    /// The environment of every command in its guest. Said by the machine.
    pub(crate) env: watch::Sender<BTreeMap<String, String>>,
    /// What its guest is given at each boot. Said by the machine.
    pub(crate) files: watch::Sender<Arc<[VmFile]>>,
    /// Said by the machine.
    pub(crate) power: watch::Sender<Power>,
    /// The way to the guest agent while it answers. Set by the connection.
    pub(crate) agent: watch::Sender<Option<AgentClient>>,
    /// Whether calls to its guest are refused, since it is about to stand still. Set by the machine.
    pub(super) closed: AtomicBool,
    /// What the connection has carried.
    pub(crate) statistics: Statistics,
    /// When the guest has answered last. No picture of it is made: it would be one per VM and heartbeat.
    heartbeat_at: AtomicU64,
}

impl VmContext {
    pub(crate) fn new(id: Id, name: Name) -> Self {
        Self {
            id,
            name,
            supervisor: ActorSlot::new(),
            machine: ActorSlot::new(),
            connections: ActorSlot::new(),
            connection: ActorSlot::new(),
            spares: SpareContext::all(),
            streams: Streams::default(),
            env: watch::Sender::default(),
            files: watch::Sender::default(),
            power: watch::Sender::default(),
            agent: watch::Sender::new(None),
            closed: AtomicBool::default(),
            statistics: Statistics::default(),
            heartbeat_at: AtomicU64::default(),
        }
    }

    /// The numbers of its connections.
    pub(super) fn connection_numbers(&self) -> Vec<u32> {
        self.kept().chain(self.streams.all().iter().map(|stream| stream.number)).collect()
    }

    /// The numbers of those connections that are there for as long as the VM is.
    pub(super) fn kept(&self) -> impl Iterator<Item = u32> {
        std::iter::once(connection::AGENT).chain(self.spares.iter().map(|spare| spare.number()))
    }

    /// Where its vsock is reached, if that has a Unix socket.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match &*self.power.borrow() {
            Power::On { socket, .. } => socket.clone(),
            Power::Off => None,
        }
    }

    /// The guest answers, right now.
    pub(super) fn heard(&self) {
        let now: Timestamp = SystemTime::now().into();
        self.heartbeat_at.store(now.0, Ordering::Relaxed);
    }

    /// When the guest has answered last.
    pub(super) fn heartbeat_at(&self) -> Timestamp {
        Timestamp(self.heartbeat_at.load(Ordering::Relaxed))
    }
}

/// What a VM's supervisor supervises, in its order.
pub(crate) fn children(engine: &Engine, vm: &Arc<VmContext>) -> Vec<ChildSpec> {
    let machine = ChildSpec {
        backoff: MACHINE_BACKOFF,
        intensity: MACHINE_INTENSITY,
        give_up: GiveUp::Retry { every: MACHINE_RETRY, health: Health::Unmanaged },
        ..machine::child_spec(engine, vm)
    };
    let (below, of) = (engine.clone(), vm.clone());
    let connections = ChildSpec::supervisor(CONNECTIONS, move |_| {
        let children = connections(&below, &of);
        async move { Ok(SupervisorConfig { strategy: Strategy::OneForOne, children }) }
    });
    let connections = ChildSpec { give_up: CONNECTIONS_GIVE_UP, ..connections.published_in(&vm.connections) };
    vec![machine, connections]
}

/// What the supervisor of a VM's connections supervises: each is on its own.
pub(crate) fn connections(engine: &Engine, vm: &Arc<VmContext>) -> Vec<ChildSpec> {
    let kept = std::iter::once(connection::child_spec(engine, vm)).chain(spare::child_specs(engine, vm));
    let kept = kept.map(|spec| ChildSpec {
        backoff: CONNECTION_BACKOFF,
        intensity: CONNECTION_INTENSITY,
        give_up: GiveUp::Retry { every: CONNECTION_RETRY, health: Health::Failed },
        ..spec
    });
    let streams = vm.streams.all();
    kept.chain(streams.iter().map(|known| stream::child_spec(engine, vm, known))).collect()
}

/// A VM as a child of the supervisor of all VMs.
pub(crate) fn child_spec(engine: &Engine, vm: &Arc<VmContext>) -> ChildSpec {
    let children = children(engine, vm);
    let spec = ChildSpec::supervisor(vm.name.to_string(), move |_| {
        let children = children.clone();
        async move { Ok(SupervisorConfig { strategy: Strategy::RestForOne, children }) }
    });
    ChildSpec { give_up: GiveUp::Mark(Health::Unmanaged), ..spec.published_in(&vm.supervisor) }
}
