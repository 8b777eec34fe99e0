//! Rows to put into a store, and what a store holds.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use nexus_model::{
    ArtifactName, ArtifactState, AssetKind, BackendKind, ExitStatus, Id, JobKind, JobState, Name, ProcessIdentity,
    Timestamp, Verification, WorkspaceState,
    vm::{Desired, Reason, VmSpec, VmmKind},
};
use nexus_store::{
    AgentRow, AssetRow, HistoryEntry, ImageRow, JobRow, NewJob, NewVm, ProcessRow, Store, VmRow, WorkspaceRow,
};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn artifact(text: &str) -> ArtifactName {
    text.parse().unwrap()
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
}

pub(crate) fn new_vm(vm: &str) -> NewVm {
    NewVm {
        id: Id::random().unwrap(),
        name: name(vm),
        spec: VmSpec { workspace: Some(name(vm)), tags: vec!["a tag".to_owned()], ..VmSpec::default() },
        desired: Desired::Running,
        created_at: at(0),
    }
}

/// Gives every field that can be empty a value.
pub(crate) fn fill(row: &mut VmRow) {
    let identity = |pid| ProcessIdentity {
        pid,
        start_ticks: 4_711,
        boot_id: "0a1b2c3d-0000-4000-8000-0123456789ab".to_owned(),
        pidfd_inode: Some(u64::from(pid) << 20),
    };
    row.desired = Desired::Stopped;
    row.vmm = Some(VmmKind::Qemu);
    row.kernel = Some(artifact("kernel-6.18.9"));
    row.initrd = Some(artifact("initrd-6.18.9"));
    row.process = Some(ProcessRow {
        leader: identity(1_000),
        keeper: identity(999),
        unit: "nexus-00000000-0123456789abcdef.service".to_owned(),
        invocation_id: Some("8f2d4c0e6b1a49d3a5c7e9f012345678".to_owned()),
    });
    row.exit = Some(ExitStatus::Signal(9));
    row.exit_reason = "killed by signal 9".to_owned();
    row.started_at = at(10);
    row.stopped_at = at(20);
    row.boot_duration = Some(Duration::from_micros(30_001));
    row.ready_duration = Some(Duration::from_micros(2_300_000));
    row.failure_count = 3;
    row.recent_failures = vec![at(11), at(12), at(13)];
    row.agent = Some(AgentRow {
        version: "0.1.0".to_owned(),
        protocol_revision: 1,
        hostname: row.name.to_string(),
        boot_id: "11111111-0000-4000-8000-0123456789ab".to_owned(),
        os_name: "debian".to_owned(),
        os_version: "12".to_owned(),
        connected_at: at(12),
    });
}

/// The transition to the state after `row`'s on the way from created to running to stopped and round again.
pub(crate) fn step(row: &mut VmRow, now: Timestamp) -> HistoryEntry {
    use nexus_model::vm::VmState::{Created, Failed, Running, Starting, Stopped, Stopping};
    let from = row.lifecycle.state();
    row.lifecycle = match from {
        Created | Stopped | Failed | nexus_model::vm::VmState::Crashed => {
            row.lifecycle.starting(Reason::Requested, now)
        }
        Starting => row.lifecycle.running(Reason::VmmStarted, now),
        Running | nexus_model::vm::VmState::Paused => row.lifecycle.stopping(Reason::Requested, now),
        Stopping => row.lifecycle.stopped(Reason::Requested, now),
    }
    .unwrap();
    HistoryEntry {
        at: now,
        from,
        to: row.lifecycle.state(),
        reason: row.lifecycle.reason(),
        detail: format!("at {now}"),
    }
}

pub(crate) fn workspace(workspace: &str) -> WorkspaceRow {
    WorkspaceRow {
        id: Id::random().unwrap(),
        name: name(workspace),
        label: String::new(),
        state: WorkspaceState::Ready,
        failure: None,
        backend: BackendKind::Copy,
        path: PathBuf::from("/data/workspaces").join(workspace),
        size_bytes: 1 << 30,
        read_only: false,
        base: None,
        vm: None,
        owner: None,
        created_at: at(1),
        attached_at: Timestamp::NEVER,
        detached_at: Timestamp::NEVER,
    }
}

pub(crate) fn image(image: &str) -> ImageRow {
    ImageRow {
        id: Id::random().unwrap(),
        name: artifact(image),
        state: ArtifactState::Ready,
        digest: "5a".repeat(32),
        path: PathBuf::from("/data/images").join(image),
        size_bytes: 64 << 20,
        origin: "/home/somebody/rootfs.ext4".to_owned(),
        os_name: "debian".to_owned(),
        os_version: "12".to_owned(),
        metadata: BTreeMap::from([("name".to_owned(), "a rootfs".to_owned())]),
        created_at: at(2),
    }
}

pub(crate) fn asset(kind: AssetKind, asset: &str) -> AssetRow {
    AssetRow {
        id: Id::random().unwrap(),
        kind,
        name: artifact(asset),
        state: ArtifactState::Ready,
        version: "6.18.9".to_owned(),
        architecture: "x86_64".to_owned(),
        digest: "c0".repeat(32),
        source: "/boot/vmlinuz".to_owned(),
        path: PathBuf::from("/data/assets").join(asset),
        elf_path: Some(PathBuf::from("/data/assets").join(asset).with_extension("elf")),
        verification: Verification::Digest,
        size_bytes: 12_345_678,
        is_default: false,
        created_at: at(3),
    }
}

pub(crate) fn new_job() -> NewJob {
    NewJob {
        kind: JobKind::StartVm,
        objects: vec!["vm/demo".to_owned()],
        state: JobState::Running,
        sender: ":1.7".to_owned(),
        request: "r-1".to_owned(),
        created_at: at(4),
    }
}

/// All that a store holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) vms: Vec<VmRow>,
    pub(crate) histories: Vec<Vec<HistoryEntry>>,
    pub(crate) workspaces: Vec<WorkspaceRow>,
    pub(crate) images: Vec<ImageRow>,
    pub(crate) assets: Vec<AssetRow>,
    pub(crate) jobs: Vec<JobRow>,
}

impl Content {
    pub(crate) fn of(store: &Store) -> Self {
        let vms = store.vms().unwrap();
        let histories = vms.iter().map(|vm| store.history(vm.id, u32::MAX).unwrap()).collect();
        Self {
            vms,
            histories,
            workspaces: store.workspaces().unwrap(),
            images: store.images().unwrap(),
            assets: store.assets().unwrap(),
            jobs: store.jobs(u32::MAX).unwrap(),
        }
    }
}
