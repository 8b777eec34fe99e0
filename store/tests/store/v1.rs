//! A database that the program with schema 1 wrote. Each later schema gets a file of rows and a file of tests like these;
//! the tests of the older ones stay, and say what became of their rows.

use std::{collections::BTreeMap, time::Duration};

use nexus_model::{
    ArtifactState, AssetKind, BackendKind, ErrorKind, ExitStatus, Id, JobKind, JobState, ProcessIdentity, Timestamp,
    Verification, WorkspaceState,
    restart::RestartPolicy,
    vm::{Desired, Lifecycle, Reason, Role, VmSpec, VmState, VmmChoice, VmmKind},
};
use nexus_store::{
    AgentRow, AssetRow, Failure, HistoryEntry, ImageRow, JobRow, ProcessRow, Store, VmRow, WorkspaceRow,
};

use crate::{
    old::{assert_tables_become_new, build},
    sample::{Content, artifact, at, name, new_job, new_vm},
};

const SQL: &str = include_str!("v1.sql");

/// What it holds, in today's terms.
pub(crate) fn content() -> Content {
    let boot_id = "0a1b2c3d-0000-4000-8000-0123456789ab".to_owned();
    let id = |bits| Id::from(bits);
    let demo = VmRow {
        id: id(0x0123_4567_89ab_cdef),
        name: name("demo"),
        spec: VmSpec {
            image: Some(artifact("base")),
            workspace: Some(name("demo")),
            kernel: Some(artifact("kernel-6.18.9")),
            initrd: None,
            vmm: VmmChoice::Auto,
            vcpus: 2,
            memory_bytes: 256 << 20,
            kernel_args: "quiet".to_owned(),
            env: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
            files: [].into(),
            tags: vec!["first".to_owned()],
            label: "The first one".to_owned(),
            role: Role::Work,
            autostart: true,
            restart_policy: RestartPolicy::Always,
            ephemeral: false,
        },
        desired: Desired::Running,
        lifecycle: Lifecycle::restored(VmState::Running, Reason::VmmStarted, at(2)),
        vmm: Some(VmmKind::Qemu),
        kernel: None,
        initrd: None,
        cid: 3,
        process: Some(ProcessRow {
            leader: ProcessIdentity { pid: 1000, start_ticks: 4711, boot_id: boot_id.clone(), pidfd_inode: Some(77) },
            keeper: ProcessIdentity { pid: 999, start_ticks: 4710, boot_id, pidfd_inode: None },
            unit: "nexus-0badcafe-0123456789abcdef.service".to_owned(),
            invocation_id: Some("8f2d4c0e6b1a49d3a5c7e9f012345678".to_owned()),
        }),
        exit: Some(ExitStatus::Code(0)),
        exit_reason: "exited with code 0".to_owned(),
        created_at: at(0),
        started_at: at(1),
        stopped_at: Timestamp(1_700_000_000_500_000),
        boot_duration: Some(Duration::from_micros(30_001)),
        ready_duration: Some(Duration::from_micros(2_300_000)),
        failure_count: 2,
        recent_failures: vec![Timestamp(1_700_000_000_100_000), Timestamp(1_700_000_000_200_000)],
        agent: Some(AgentRow {
            version: "0.1.0".to_owned(),
            protocol_revision: 1,
            hostname: "demo".to_owned(),
            boot_id: "11111111-0000-4000-8000-0123456789ab".to_owned(),
            os_name: "debian".to_owned(),
            os_version: "12".to_owned(),
            connected_at: Timestamp(1_700_000_002_300_000),
        }),
        generation: 5,
    };
    let new = VmRow {
        id: id(0xfedc_ba98_7654_3210),
        name: name("new"),
        spec: VmSpec {
            vmm: VmmChoice::Process,
            role: Role::Service,
            restart_policy: RestartPolicy::No,
            ephemeral: true,
            ..VmSpec::default()
        },
        desired: Desired::Resting,
        lifecycle: Lifecycle::created(at(3)),
        vmm: None,
        kernel: None,
        initrd: None,
        cid: 4,
        process: None,
        exit: None,
        exit_reason: String::new(),
        created_at: at(3),
        started_at: Timestamp::NEVER,
        stopped_at: Timestamp::NEVER,
        boot_duration: None,
        ready_duration: None,
        failure_count: 0,
        recent_failures: Vec::new(),
        agent: None,
        generation: 1,
    };
    let entry = |second, from, to, reason, detail: &str| HistoryEntry {
        at: at(second),
        from,
        to,
        reason,
        detail: detail.to_owned(),
    };
    Content {
        histories: vec![
            vec![
                entry(2, VmState::Starting, VmState::Running, Reason::VmmStarted, "pid 1000"),
                entry(1, VmState::Created, VmState::Starting, Reason::Requested, ""),
            ],
            Vec::new(),
        ],
        workspaces: vec![WorkspaceRow {
            id: id(0xbb),
            name: name("demo"),
            label: "a disk".to_owned(),
            state: WorkspaceState::Attached,
            failure: None,
            backend: BackendKind::Copy,
            path: "/data/workspaces/demo".into(),
            size_bytes: 1 << 30,
            read_only: false,
            base: Some(artifact("base")),
            vm: Some(demo.id),
            owner: Some(demo.id),
            created_at: Timestamp(1_700_000_000_000_002),
            attached_at: Timestamp(1_700_000_000_000_003),
            detached_at: Timestamp::NEVER,
        }],
        images: vec![ImageRow {
            id: id(0xaa),
            name: artifact("base"),
            state: ArtifactState::Ready,
            digest: "5a".repeat(32),
            path: "/data/images/base".into(),
            size_bytes: 64 << 20,
            origin: "/home/somebody/rootfs.ext4".to_owned(),
            os_name: "debian".to_owned(),
            os_version: "12".to_owned(),
            metadata: BTreeMap::from([("name".to_owned(), "a rootfs".to_owned())]),
            created_at: Timestamp(1_700_000_000_000_001),
        }],
        assets: vec![AssetRow {
            id: id(0xcc),
            kind: AssetKind::Kernel,
            name: artifact("kernel-6.18.9"),
            state: ArtifactState::Ready,
            version: "6.18.9".to_owned(),
            architecture: "x86_64".to_owned(),
            digest: "c0".repeat(32),
            source: "/boot/vmlinuz".to_owned(),
            path: "/data/assets/kernel-6.18.9".into(),
            elf_path: Some("/data/assets/kernel-6.18.9.elf".into()),
            verification: Verification::Digest,
            size_bytes: 12_345_678,
            is_default: true,
            created_at: Timestamp(1_700_000_000_000_004),
        }],
        jobs: vec![
            JobRow {
                id: 8,
                kind: JobKind::StopVm,
                objects: Vec::new(),
                state: JobState::Running,
                error: None,
                sender: String::new(),
                request: String::new(),
                created_at: Timestamp(1_700_000_000_000_007),
                finished_at: Timestamp::NEVER,
            },
            JobRow {
                id: 7,
                kind: JobKind::StartVm,
                objects: vec!["vm/demo".to_owned()],
                state: JobState::Failed,
                error: Some(Failure { kind: ErrorKind::HypervisorFailed, message: "QEMU ended".to_owned() }),
                sender: ":1.7".to_owned(),
                request: "r-1".to_owned(),
                created_at: Timestamp(1_700_000_000_000_005),
                finished_at: Timestamp(1_700_000_000_000_006),
            },
        ],
        vms: vec![demo, new],
    }
}

#[test]
fn its_rows_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    build(&path, SQL);
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.instance().to_string(), "0badcafe");
    assert_eq!(Content::of(&store), content());
    // Those of its VMs stay; new ones begin where the instance does.
    assert_eq!(store.insert_vm(&new_vm("third")).unwrap().cid, 0x0bae_cafe);
    assert_eq!(store.insert_job(&new_job()).unwrap().id, 9);
}

#[test]
fn its_tables_become_those_of_a_new_database() {
    assert_tables_become_new(SQL);
}
