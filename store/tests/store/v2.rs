//! A database that the program with schema 2 wrote: the rows of [`v1`], and what schema 2 knows besides.

use nexus_model::{BackendKind, ErrorKind, EventKind, Id, Timestamp, WorkspaceState};
use nexus_store::{EventRow, Failure, Filter, NewEvent, Store, VmOf, WorkspaceRow};

use crate::{
    old::{assert_tables_become_new, build},
    sample::{Content, artifact, at, name},
    v1,
};

const SQL: &str = include_str!("v2.sql");

/// What it holds, in today's terms.
pub(crate) fn content() -> Content {
    let mut content = v1::content();
    content.vms[0].kernel = Some(artifact("kernel-6.18.9"));
    content.vms[0].initrd = Some(artifact("initrd-6.18.9"));
    content.workspaces.push(WorkspaceRow {
        id: Id::from(0xdd),
        name: name("lost"),
        label: String::new(),
        state: WorkspaceState::Missing,
        failure: Some(Failure { kind: ErrorKind::StorageFailed, message: "its folder is gone".to_owned() }),
        backend: BackendKind::Btrfs,
        path: "/data/workspaces/lost".into(),
        size_bytes: 1 << 20,
        read_only: true,
        base: Some(artifact("base")),
        vm: None,
        owner: None,
        created_at: Timestamp(1_700_000_000_000_008),
        attached_at: Timestamp::NEVER,
        detached_at: Timestamp::NEVER,
    });
    content
}

/// What has become of its `vm_history`.
pub(crate) fn transitions() -> Vec<EventRow> {
    let transition = |seq, second, from: &str, to: &str, reason: &str, detail: &str| EventRow {
        seq,
        event: NewEvent {
            at: at(second),
            kind: EventKind::VmState,
            subject: "vm/demo".to_owned(),
            vm: Some(VmOf { name: name("demo"), id: Some(Id::from(0x0123_4567_89ab_cdef)) }),
            from: from.to_owned(),
            to: to.to_owned(),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
        },
    };
    vec![
        transition(1, 1, "created", "starting", "requested", ""),
        transition(2, 2, "starting", "running", "vmm-started", "pid 1000"),
    ]
}

#[test]
fn its_rows_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    build(&path, SQL);
    let store = Store::open(&path).unwrap();
    assert_eq!(Content::of(&store), content());
    assert_eq!(store.events(&Filter::default(), 0, 9).unwrap().rows, transitions());
}

#[test]
fn its_tables_become_those_of_a_new_database() {
    assert_tables_become_new(SQL);
}
