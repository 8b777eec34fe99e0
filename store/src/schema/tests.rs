use std::path::Path;

use rusqlite::Connection;

use super::STEPS;
use crate::{OpenError, Store};

/// A step after the newest one, as a release would add it: a column, and a table that is rebuilt with its rows.
const NEXT: &str = "
    ALTER TABLE vm ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';
    CREATE TABLE asset_new (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    INSERT INTO asset_new SELECT id, name FROM asset;
    DROP TABLE asset;
    ALTER TABLE asset_new RENAME TO asset;
";
/// Fails after it has changed something.
const BROKEN: &str = "UPDATE meta SET value = 'lost'; INSERT INTO no_such_table VALUES (1)";
/// Leaves a workspace whose VM is gone.
const ORPHANING: &str = "
    INSERT INTO workspace (id, name, label, state, backend, path, size_bytes, read_only, base, vm, owner, created_at,
        attached_at, detached_at) VALUES ('0', 'w', '', 'failed', 'copy', '/', 0, 0, NULL, 'gone', NULL, 0, 0, 0)
";

fn open(path: &Path, more: &[&str]) -> Result<Store, OpenError> {
    Store::open_with(path, &[STEPS, more].concat())
}

fn version(path: &Path) -> u32 {
    Connection::open(path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_step_brings_the_rows_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    let store = Store::open(&path).unwrap();
    let instance = store.instance();
    store
        .connection
        .execute(
            "INSERT INTO asset VALUES ('1', 'kernel', 'k', 'creating', '', '', '', '', '', NULL, 'none', 0, 0, 0)",
            [],
        )
        .unwrap();
    drop(store);

    let newest = u32::try_from(STEPS.len()).unwrap();
    let store = open(&path, &[NEXT]).unwrap();
    assert_eq!(store.instance(), instance);
    assert_eq!(store.statistics().unwrap().schema_version, newest + 1);
    let names: Vec<String> = store
        .connection
        .prepare("SELECT name FROM asset")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(names, ["k"]);
    drop(store);
    assert!(
        matches!(Store::open(&path), Err(OpenError::Newer { found, known, .. }) if found == newest + 1 && known == newest)
    );
    open(&path, &[NEXT]).unwrap();
}

#[test]
fn a_step_that_fails_changes_nothing_and_keeps_those_before_it() {
    for broken in [BROKEN, ORPHANING] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nexus.db");
        let instance = Store::open(&path).unwrap().instance();
        let newest = u32::try_from(STEPS.len()).unwrap();
        let error = open(&path, &[NEXT, broken]).unwrap_err();
        assert!(matches!(error, OpenError::Migration { to, .. } if to == newest + 2), "{error:?}");
        assert_eq!(version(&path), newest + 1);
        assert_eq!(open(&path, &[NEXT]).unwrap().instance(), instance);
    }
}

#[test]
fn a_new_database_goes_through_every_step_or_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    assert!(matches!(open(&path, &[BROKEN]), Err(OpenError::Migration { .. })));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    open(&path, &[NEXT]).unwrap();
}
