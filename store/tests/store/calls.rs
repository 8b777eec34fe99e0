//! Calls are written down when they come and completed when they end.

use std::time::Duration;

use nexus_model::Id;
use nexus_store::{Bounds, CUT_OFF, CallEnd, CallRow, Filter, NewCall, OK, Store, VmOf};
use serde_json::json;
use tempfile::TempDir;

use crate::sample::{at, name};

fn empty() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("nexus.db")).unwrap();
    (folder, store)
}

fn call(request: u64) -> NewCall {
    NewCall {
        request: Id::from(request),
        at: at(request),
        sender: ":1.7".to_owned(),
        pid: 4711,
        executable: "/usr/bin/nexusctl".to_owned(),
        unit: "a.scope".to_owned(),
        caller_reason: "because".to_owned(),
        path: "/org/workfort/Nexus1".to_owned(),
        member: "RunVm".to_owned(),
        subject: "daemon".to_owned(),
        vm: None,
        arguments: json!({ "name": "" }),
        before: String::new(),
    }
}

fn end() -> CallEnd {
    CallEnd {
        subject: "vm/web".to_owned(),
        vm: Some(VmOf { name: name("web"), id: Some(Id::from(1)) }),
        after: "created".to_owned(),
        job: 3,
        result: OK.to_owned(),
        message: String::new(),
        took: Duration::from_micros(1_234),
    }
}

fn all(store: &Store) -> Vec<CallRow> {
    store.calls(&Filter::default(), 0, u32::MAX).unwrap().rows
}

#[test]
fn what_is_known_at_the_end_completes_it() {
    let (_folder, mut store) = empty();
    store.begin_call(&call(1)).unwrap();
    assert_eq!(all(&store), [CallRow { seq: 1, call: call(1), end: None }]);
    assert!(store.calls_ended(&[1]).unwrap().is_empty());
    store.end_call(Id::from(1), &end()).unwrap();
    let whole = NewCall { subject: end().subject, vm: end().vm, ..call(1) };
    assert_eq!(all(&store), [CallRow { seq: 1, call: whole, end: Some(end()) }]);
    assert_eq!(store.calls_ended(&[1]).unwrap(), all(&store));
    // It ends once.
    store.end_call(Id::from(1), &CallEnd { result: "Busy".to_owned(), ..end() }).unwrap();
    assert_eq!(all(&store)[0].end, Some(end()));
    let of = |vm: &str| store.calls(&Filter { vm: Some(vm.to_owned()), ..Filter::default() }, 0, 9).unwrap().rows.len();
    assert_eq!((of("web"), of("0000000000000001"), of("other")), (1, 1, 0));
}

/// It may have been written by a store that could not say so any more.
#[test]
fn a_call_is_under_way_once() {
    let (_folder, mut store) = empty();
    store.begin_call(&call(1)).unwrap();
    store.begin_call(&call(2)).unwrap();
    store.begin_call(&call(1)).unwrap();
    assert_eq!(all(&store).into_iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2]);
    store.end_call(Id::from(1), &end()).unwrap();
    assert_eq!(all(&store)[0].end, Some(end()));
}

#[test]
fn what_the_next_daemon_finds_under_way_was_cut_off() {
    let (folder, mut store) = empty();
    store.begin_call(&call(1)).unwrap();
    store.begin_call(&call(2)).unwrap();
    store.end_call(Id::from(2), &end()).unwrap();
    drop(store);
    let mut store = Store::open(&folder.path().join("nexus.db")).unwrap();
    assert_eq!((store.calls_cut_off().unwrap(), store.calls_cut_off().unwrap()), (1, 0));
    let results: Vec<String> = all(&store).into_iter().map(|row| row.end.unwrap().result).collect();
    assert_eq!(results, [CUT_OFF, OK]);
}

#[test]
fn so_many_are_kept() {
    let (_folder, store) = empty();
    let mut store = store.keeping(Bounds { audit: 3, ..Bounds::default() });
    for request in 1..=5 {
        store.begin_call(&call(request)).unwrap();
    }
    assert_eq!(all(&store).iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4, 5]);
    // What is forgotten meanwhile can't be completed, and is no failure.
    store.end_call(Id::from(1), &end()).unwrap();
    assert_eq!(store.calls_before_newest(&Filter::default(), 2).unwrap(), 3);
}

#[test]
fn what_is_written_without_waiting_for_the_disk_survives_the_process() {
    let (folder, mut store) = empty();
    let changes = store.changes();
    store.together_unsynced(|store| store.begin_call(&call(1))).unwrap();
    assert!(store.changes() > changes);
    let failed = store.together_unsynced(|store| {
        store.begin_call(&call(2))?;
        store.job(9).map(drop)
    });
    assert!(failed.is_err());
    // As after a kill: the log is read as it is, and nothing was closed.
    let copy = tempfile::tempdir().unwrap();
    for file in ["nexus.db", "nexus.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let copied = Store::open(&copy.path().join("nexus.db")).unwrap();
    assert_eq!(all(&copied).iter().map(|row| row.call.request).collect::<Vec<_>>(), [Id::from(1)]);
}
