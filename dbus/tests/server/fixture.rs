//! A served engine and a client of it, peer to peer, and one of everything to show. The engine is real and has nothing to
//! do; what it shows is put on its board by hand.

use std::{
    collections::BTreeMap,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use nexus_actors::{
    snapshot::{
        AssetSnapshot, Board, ConnectionSnapshot, GuestSnapshot, ImageSnapshot, JobSnapshot, ObjectRef, ResultValue,
        VmSnapshot, WorkspaceSnapshot,
    },
    supervisor::{ChildStatus, Strategy},
};
use nexus_dbus::server::{LogControl, Server, ServerOptions, serve};
use nexus_model::{
    AssetKind, BackendKind, ConnectionKind, ConnectionState, Direction, Health, Id, JobKind, JobState, Timestamp,
    Verification, WorkspaceState,
    restart::{Intensity, RestartPolicy},
    vm::{Desired, Lifecycle, Reason, Role, VmState, VmmKind},
};
use nexus_tests::TestEngine;
use zbus::{Connection, Guid, connection::Builder};

/// Ten times what the slowest of these takes on two busy cores.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// A served engine, and the other end of its connection.
pub(crate) struct Fixture {
    pub(crate) engine: TestEngine,
    pub(crate) server: Server,
    pub(crate) client: Connection,
}

impl Fixture {
    /// Serves an engine with this on its board.
    pub(crate) async fn with(fill: impl FnOnce(&Board)) -> Self {
        let engine = TestEngine::start().await;
        fill(engine.engine.board());
        let (served, client) = pair().await;
        let server = serve(&served, engine.engine.clone(), options()).await.unwrap();
        Self { engine, server, client }
    }

    pub(crate) fn board(&self) -> &Board {
        self.engine.engine.board()
    }
}

/// Two ends of a connection without a bus.
pub(crate) async fn pair() -> (Connection, Connection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = Builder::unix_stream(ours).server(Guid::generate()).p2p().build();
    let client = Builder::unix_stream(theirs).p2p().build();
    tokio::try_join!(served, client).unwrap()
}

pub(crate) fn options() -> ServerOptions {
    ServerOptions { version: "1.2.3".to_owned(), log: Arc::new(Log(Mutex::new("info".to_owned()))) }
}

struct Log(Mutex<String>);

impl LogControl for Log {
    fn level(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        if level == "loud" {
            return Err("`loud` is no level".to_owned());
        }
        level.clone_into(&mut self.0.lock().unwrap());
        Ok(())
    }

    fn target(&self) -> String {
        "console".to_owned()
    }
}

pub(crate) fn vm(name: &str) -> VmSnapshot {
    VmSnapshot {
        id: Id::from(7),
        name: name.parse().unwrap(),
        label: "The first".to_owned(),
        role: Role::Work,
        tags: vec!["a".to_owned()],
        lifecycle: Lifecycle::restored(VmState::Running, Reason::VmmStarted, Timestamp(10)),
        job: None,
        guest: None,
        ephemeral: false,
        desired: Desired::Resting,
        autostart: true,
        restart_policy: RestartPolicy::OnFailure,
        vmm: Some(VmmKind::Qemu),
        isolated: true,
        image: Some("alpine-3.20".parse().unwrap()),
        kernel: None,
        assets: Vec::new(),
        workspaces: vec!["disk".parse().unwrap()],
        connections: vec![1],
        vcpus: 2,
        memory_bytes: 256 << 20,
        cid: 3,
        leader: 4711,
        unit: "nexus-a.service".to_owned(),
        invocation_id: String::new(),
        exit: None,
        exit_reason: String::new(),
        created_at: Timestamp(1),
        started_at: Timestamp(2),
        stopped_at: Timestamp::NEVER,
        boot_duration: Duration::from_micros(5),
        ready_duration: Duration::ZERO,
        api_socket: None,
        vsock_socket: Some(PathBuf::from("/run/v")),
        console_log: PathBuf::from("/var/log/console.log"),
    }
}

pub(crate) fn in_state(name: &str, state: VmState, at: u64) -> VmSnapshot {
    VmSnapshot { lifecycle: Lifecycle::restored(state, Reason::Requested, Timestamp(at)), ..vm(name) }
}

pub(crate) fn guest() -> GuestSnapshot {
    GuestSnapshot {
        agent_version: "0.1.0".to_owned(),
        protocol_revision: 1,
        hostname: "web".to_owned(),
        addresses: vec!["10.0.0.2".to_owned()],
        boot_id: "b".to_owned(),
        os_name: "alpine".to_owned(),
        os_version: "3.20".to_owned(),
        features: vec!["clock".to_owned(), "terminals".to_owned()],
        image_metadata: BTreeMap::from([("purpose".to_owned(), "tests".to_owned())]),
        connected_at: Timestamp(3),
    }
}

pub(crate) fn job(id: u32, state: JobState) -> JobSnapshot {
    JobSnapshot {
        id,
        kind: JobKind::StartVm,
        objects: vec![ObjectRef::Vm("web".parse().unwrap())],
        state,
        stage: "boot".to_owned(),
        progress: None,
        completed_bytes: 0,
        total_bytes: 0,
        cancellable: true,
        bound: false,
        sender: ":1.5".to_owned(),
        error: None,
        result: BTreeMap::new(),
        created_at: Timestamp(1),
        finished_at: Timestamp::NEVER,
    }
}

pub(crate) fn status(place: &str, health: Health) -> ChildStatus {
    ChildStatus {
        path: place.to_owned(),
        supervisor: place.rsplit_once('/').map(|(supervisor, _)| supervisor.to_owned()),
        // A VM's machine is started before its connections.
        order: u64::from(!place.ends_with("/machine")),
        strategy: None,
        intensity: Some(Intensity { max: 5, window: Duration::from_secs(60) }),
        health,
        generation: 1,
        restart_count: 0,
        failure_count: 0,
        fault_count: 0,
        last_fault_at: Timestamp::NEVER,
        last_fault_reason: String::new(),
        next_restart_at: Timestamp::NEVER,
        started_at: Timestamp(1),
    }
}

pub(crate) fn supervisor(place: &str) -> ChildStatus {
    ChildStatus { strategy: Some(Strategy::OneForOne), ..status(place, Health::Ok) }
}

/// Puts one of everything on the board, and a little more.
pub(crate) fn one_of_everything(board: &Board) {
    board.publish_vm("web".parse().unwrap(), VmSnapshot { guest: Some(guest()), ..vm("web") });
    let connection = ConnectionSnapshot {
        vm: "web".parse().unwrap(),
        number: 1,
        port: 100,
        kind: ConnectionKind::Agent,
        direction: Direction::Outbound,
        state: ConnectionState::Open,
        owner: "nexusd".to_owned(),
        host_path: None,
        opened_at: Timestamp(4),
        failure: None,
    };
    board.publish_connection(("web".parse().unwrap(), 1), connection);
    let workspace = WorkspaceSnapshot {
        id: Id::from(8),
        name: "disk".parse().unwrap(),
        backend: BackendKind::Copy,
        path: PathBuf::from("/data/@disk"),
        size_bytes: 1 << 30,
        read_only: false,
        root_device: true,
        base: Some("alpine-3.20".parse().unwrap()),
        vm: Some("web".parse().unwrap()),
        state: WorkspaceState::Attached,
        failure: None,
        created_at: Timestamp(1),
        attached_at: Timestamp(2),
        detached_at: Timestamp::NEVER,
    };
    board.publish_workspace("disk".parse().unwrap(), workspace);
    let image = ImageSnapshot {
        id: Id::from(9),
        name: "alpine-3.20".parse().unwrap(),
        digest: "ab".to_owned(),
        path: PathBuf::from("/data/images/alpine"),
        size_bytes: 1 << 30,
        origin: "/tmp/a".to_owned(),
        os_name: "alpine".to_owned(),
        os_version: "3.20".to_owned(),
        used_by: vec!["disk".parse().unwrap()],
        created_at: Timestamp(1),
    };
    board.publish_image("alpine-3.20".parse().unwrap(), image);
    let asset = AssetSnapshot {
        id: Id::from(10),
        kind: AssetKind::Kernel,
        name: "kernel-6.1".parse().unwrap(),
        version: "6.1".to_owned(),
        architecture: "x86_64".to_owned(),
        digest: "cd".to_owned(),
        source: "/boot/vmlinuz".to_owned(),
        path: PathBuf::from("/data/assets/kernel-6.1"),
        verification: Verification::Digest,
        size_bytes: 1 << 20,
        default: true,
        used_by: Vec::new(),
        created_at: Timestamp(1),
    };
    board.publish_asset("kernel-6.1".parse().unwrap(), asset);
    let result = BTreeMap::from([("vm", ResultValue::Object(ObjectRef::Vm("web".parse().unwrap())))]);
    board.publish_job(1, JobSnapshot { result, ..job(1, JobState::Done) });
    board.publish_job(2, job(2, JobState::Running));
    board.publish_actor("root/vms/web".to_owned(), supervisor("root/vms/web"));
    board.publish_actor("root/vms/web/connections".to_owned(), supervisor("root/vms/web/connections"));
    for place in ["root/vms/web/machine", "root/vms/web/connections/connection-1", "root/workspaces/disk"] {
        board.publish_actor(place.to_owned(), status(place, Health::Ok));
    }
}
