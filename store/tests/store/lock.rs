//! One owner at a time.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use nexus_model::ErrorKind;
use nexus_store::{OpenError, Store};
use rusqlite::Connection;

use crate::{
    reexec::{self, Killed},
    sample::{Content, new_vm},
};

/// What the other process says once it has what it came for.
const READY: &str = "other process ready";

/// Says that this process is ready, and stays until the other end is closed.
fn hold() {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n{READY}").unwrap();
    output.flush().unwrap();
    drop(output);
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Starts this test as another process and waits until it is ready.
fn other_process(test: &str, path: &Path) -> Killed {
    let mut process = Killed::spawn(reexec::this_test(&[], test, path.to_str().unwrap()));
    let output = BufReader::new(process.0.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == READY), "the other process ended");
    process
}

#[test]
fn a_folder_belongs_to_one_daemon_until_it_is_gone() {
    const TEST: &str = "lock::a_folder_belongs_to_one_daemon_until_it_is_gone";
    if let Some(path) = reexec::part() {
        let _store = Store::open(Path::new(&path)).unwrap();
        return hold();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let daemon = other_process(TEST, &path);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Taken { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::InUse);
    // Even where the database has another name: the folder is what counts.
    assert!(matches!(Store::open(&folder.path().join("other.db")), Err(OpenError::Taken { .. })));
    drop(daemon);
    Store::open(&path).unwrap();
}

#[test]
fn two_actors_of_one_daemon_do_not_share_it_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let store = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Taken { .. })));
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn a_locked_database_is_refused_and_left_alone() {
    const TEST: &str = "lock::a_locked_database_is_refused_and_left_alone";
    if let Some(path) = reexec::part() {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").unwrap();
        connection.execute_batch("BEGIN EXCLUSIVE; UPDATE vm SET exit_reason = 'other'").unwrap();
        return hold();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let mut store = Store::open(&path).unwrap();
    store.insert_vm(&new_vm("demo")).unwrap();
    let content = Content::of(&store);
    drop(store);
    let other = other_process(TEST, &path);
    let log = path.with_file_name("nexus.db-wal");
    let before = (fs::read(&path).unwrap(), fs::read(&log).ok());
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert_eq!((fs::read(&path).unwrap(), fs::read(&log).ok()), before);
    drop(other);
    assert_eq!(Content::of(&Store::open(&path).unwrap()), content);
}

#[test]
fn a_write_lock_of_another_process_is_an_error_that_passes() {
    const TEST: &str = "lock::a_write_lock_of_another_process_is_an_error_that_passes";
    if let Some(path) = reexec::part() {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE; UPDATE vm SET exit_reason = 'other'").unwrap();
        return hold();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let mut store = Store::open(&path).unwrap();
    store.insert_vm(&new_vm("demo")).unwrap();
    let content = Content::of(&store);
    let other = other_process(TEST, &path);
    let error = store.insert_vm(&new_vm("late")).unwrap_err();
    assert!(matches!(error, nexus_store::Error::Locked { .. }), "{error:?}");
    assert_eq!(Content::of(&store), content);
    drop(other);
    store.insert_vm(&new_vm("late")).unwrap();
}

#[test]
fn somebody_who_only_reads_is_in_nobodys_way() {
    const TEST: &str = "lock::somebody_who_only_reads_is_in_nobodys_way";
    if let Some(path) = reexec::part() {
        let connection = Connection::open(path).unwrap();
        let count: u32 = connection.query_row("SELECT count(*) FROM vm", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
        return hold();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let mut store = Store::open(&path).unwrap();
    store.insert_vm(&new_vm("demo")).unwrap();
    let content = Content::of(&store);
    let _reader = other_process(TEST, &path);
    // The reader keeps the log alive, so this is how a store finds the database after a kill as well.
    drop(store);
    let mut store = Store::open(&path).unwrap();
    assert_eq!(Content::of(&store), content);
    store.insert_vm(&new_vm("late")).unwrap();
}
