//! A disk that is full.

use std::{fs, path::Path};

use nexus_model::ErrorKind;
use nexus_store::{Error, OpenError, Store};

use crate::{
    namespace::{in_mount_namespace, mount_tmpfs},
    sample::{Content, at, new_vm, step},
};

/// Takes all the room that is left, and gives it back when dropped.
struct Ballast<'a>(&'a Path);

impl<'a> Ballast<'a> {
    fn fill(path: &'a Path) -> Self {
        let mut file = fs::File::create(path).unwrap();
        for size in [1 << 16, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Ballast<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

#[test]
fn what_does_not_fit_does_not_happen() {
    in_mount_namespace("disk::what_does_not_fit_does_not_happen", |folder| {
        mount_tmpfs(folder, 1 << 20);
        let path = folder.join("state/nexus.db");
        let mut store = Store::open(&path).unwrap();
        let mut vm = store.insert_vm(&new_vm("demo")).unwrap();
        let ballast = folder.join("ballast");
        let full = Ballast::fill(&ballast);

        let mut content = Content::of(&store);
        let mut stored = vm.clone();
        let error = (0..10_000)
            .find_map(|second| {
                let entry = step(&mut vm, at(second));
                let error = store.update_vm(&vm, Some(&entry)).err();
                if error.is_none() {
                    content = Content::of(&store);
                    stored = vm.clone();
                }
                error
            })
            .unwrap();
        assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::ResourcesExhausted);
        assert_eq!(error.to_string(), "the disk that holds the database is full: make room there");
        assert_eq!(Content::of(&store), content);
        assert!(matches!(store.insert_vm(&new_vm("late")), Err(Error::DiskFull { .. })));
        assert_eq!(Content::of(&store), content);

        drop(store);
        match Store::open(&path) {
            Ok(store) => assert_eq!(Content::of(&store), content),
            Err(error) => assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}"),
        }

        drop(full);
        let mut store = Store::open(&path).unwrap();
        assert_eq!(Content::of(&store), content);
        let entry = step(&mut stored, at(20_000));
        store.update_vm(&stored, Some(&entry)).unwrap();
        store.insert_vm(&new_vm("late")).unwrap();
    });
}

#[test]
fn a_database_that_does_not_fit_is_not_begun() {
    in_mount_namespace("disk::a_database_that_does_not_fit_is_not_begun", |folder| {
        for kib in [4, 16, 32, 48, 64, 96, 128] {
            let state = folder.join(format!("{kib}-kib"));
            fs::create_dir(&state).unwrap();
            mount_tmpfs(&state, kib << 10);
            let error = Store::open(&state.join("nexus.db")).unwrap_err();
            assert!(matches!(error, OpenError::DiskFull { .. }), "{kib} KiB: {error:?}");
            assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "{kib} KiB");
        }
    });
}
