//! What is not this program's to open is refused, each for its own reason, and left exactly as it was.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nexus_store::{OpenError, Store};
use proptest::{prelude::*, test_runner::Config};
use rusqlite::{Connection, config::DbConfig};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    namespace::{in_mount_namespace, make_read_only, mount_tmpfs},
    sample::{Content, at, new_vm, step},
};

/// The names, modes and contents of everything in a folder.
fn frozen(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let content = if path.is_file() { Sha256::digest(fs::read(&path).unwrap()).to_vec() } else { Vec::new() };
            let mode = path.metadata().unwrap().permissions().mode();
            (path, (mode, content))
        })
        .collect()
}

/// The error of an open that must fail and must not touch anything.
fn refused(path: &Path) -> OpenError {
    let before = frozen(path.parent().unwrap());
    let error = Store::open(path).unwrap_err();
    assert_eq!(frozen(path.parent().unwrap()), before, "{error} came, but something was touched");
    error
}

/// A store with some rows, closed.
fn filled(folder: &Path) -> PathBuf {
    let path = folder.join("nexus.db");
    let mut store = Store::open(&path).unwrap();
    for vm in 0..40 {
        let mut vm = store.insert_vm(&new_vm(&format!("vm-{vm}"))).unwrap();
        for second in 0..5 {
            let entry = step(&mut vm, at(second));
            store.update_vm(&vm, Some(&entry)).unwrap();
        }
    }
    path
}

/// Runs SQL in a database as any other program would, and leaves it in the write-ahead log.
fn in_the_log(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    fs::remove_file(path.with_file_name("nexus.db-shm")).unwrap();
    assert!(path.with_file_name("nexus.db-wal").metadata().unwrap().len() > 0);
}

#[test]
fn a_new_database_is_this_users_alone_and_leaves_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/nexus.db");
    let store = Store::open(&path).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    for folder in [path.parent().unwrap(), &folder.path().join("a")] {
        assert_eq!(mode(folder), 0o700);
    }
    for file in frozen(path.parent().unwrap()).keys() {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    drop(store);
    assert_eq!(frozen(path.parent().unwrap()).keys().collect::<Vec<_>>(), [&path]);
}

#[test]
fn what_an_interrupted_creation_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["nexus.db.new", "nexus.db.new-wal", "nexus.db.new-journal"] {
        fs::write(folder.path().join(file), "half").unwrap();
    }
    let path = folder.path().join("nexus.db");
    drop(Store::open(&path).unwrap());
    assert_eq!(frozen(folder.path()).keys().collect::<Vec<_>>(), [&path]);
}

#[test]
fn a_newer_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 99, known: 3, .. }), "{error:?}");
    assert!(error.to_string().ends_with("start the newer nexusd that made it, or move it away"), "{error}");
}

#[test]
fn a_database_that_is_newer_only_by_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    in_the_log(&path, "PRAGMA user_version = 99");
    assert!(matches!(refused(&path), OpenError::Newer { found: 99, .. }));
}

#[test]
fn a_database_of_another_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let sql = "CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    assert!(matches!(refused(&path), OpenError::Foreign { application_id: 0, .. }));
    Connection::open(&path).unwrap().pragma_update(None, "application_id", 42).unwrap();
    assert!(matches!(refused(&path), OpenError::Foreign { application_id: 42, .. }));
    Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    in_the_log(&path, "INSERT INTO bookmarks VALUES ('y')");
    assert!(matches!(refused(&path), OpenError::Foreign { .. }));
}

#[test]
fn no_database_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    for content in [&b""[..], b"hello", b"SQLite format 3\0", &[0; 8192], &[b'x'; 8192]] {
        fs::write(&path, content).unwrap();
        let error = refused(&path);
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{} bytes: {error:?}", content.len());
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(refused(&path), OpenError::NotADatabase { .. }));
}

#[test]
fn a_link_to_nowhere_is_not_followed_into_a_new_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Io { .. })));
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn a_damaged_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let whole = fs::read(&path).unwrap();

    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xa5; 4096], 4096 * 3).unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");

    fs::write(&path, &whole[..whole.len() / 8192 * 4096]).unwrap();
    assert!(matches!(refused(&path), OpenError::Corrupt { .. }), "half of it");

    fs::write(&path, &whole).unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 0).unwrap();
    assert!(matches!(refused(&path), OpenError::Corrupt { .. }), "no schema");

    fs::write(&path, &whole).unwrap();
    Connection::open(&path).unwrap().execute_batch("DELETE FROM meta").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "no instance: {error:?}");
}

#[test]
fn a_damaged_database_with_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    in_the_log(&path, "UPDATE vm SET exit_reason = 'in the log' WHERE name = 'vm-1'");
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xa5; 4096], 4096 * 3).unwrap();
    assert!(matches!(refused(&path), OpenError::Corrupt { .. }));
}

#[test]
fn a_log_without_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    in_the_log(&path, "UPDATE vm SET exit_reason = 'in the log'");
    fs::remove_file(&path).unwrap();
    assert!(matches!(refused(&path), OpenError::Corrupt { .. }));
}

#[test]
fn a_folder_that_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state"), "").unwrap();
    assert!(matches!(Store::open(&folder.path().join("state/nexus.db")), Err(OpenError::Io { .. })));
}

#[test]
fn a_read_only_database() {
    in_mount_namespace("refusal::a_read_only_database", |folder| {
        mount_tmpfs(folder, 32 << 20);
        let path = filled(folder);
        let nothing = folder.join("nothing");
        fs::create_dir(&nothing).unwrap();
        in_the_log(&path, "UPDATE vm SET exit_reason = 'in the log'");
        make_read_only(folder);
        let error = refused(&path);
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
        let error = refused(&nothing.join("nexus.db"));
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    });
}

/// One store for all cases: making one takes longer than looking at it.
fn original() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    (folder, path)
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_and_never_a_panic() {
    let (_folder, original) = original();
    let whole = fs::read(&original).unwrap();
    let damage = (0..whole.len() - 64, prop::collection::vec(any::<u8>(), 1..64));
    let mut runner =
        proptest::test_runner::TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&damage, |(offset, bytes)| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("nexus.db");
            let mut damaged = whole.clone();
            damaged[offset..offset + bytes.len()].copy_from_slice(&bytes);
            fs::write(&path, &damaged).unwrap();
            match Store::open(&path) {
                Ok(store) => {
                    // A value may have changed that SQLite has no check for: it reads, or it is an error.
                    for vm in store.vms().unwrap_or_default() {
                        let _ = store.history(vm.id, 10);
                    }
                }
                // It looked whole, but its instance id was hit.
                Err(OpenError::Corrupt { detail, .. }) if detail.contains("instance id") => {}
                Err(error) => {
                    prop_assert_eq!(fs::read(&path).unwrap(), damaged, "{} touched it", error);
                    prop_assert_eq!(frozen(folder.path()).len(), 1, "{} left files", error);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_database_whose_log_was_never_closed_opens_with_all_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let before = Content::of(&Store::open(&path).unwrap());
    in_the_log(&path, "UPDATE vm SET exit_reason = 'in the log'");
    let after = Content::of(&Store::open(&path).unwrap());
    assert!(after.vms.iter().all(|vm| vm.exit_reason == "in the log"));
    assert_eq!(after.histories, before.histories);
}
