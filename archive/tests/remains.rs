//! A tree that can't be removed once it is replaced. A test of its own, as the whole process has few descriptors for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use nexus_archive::{ArchiveError, Draft, Root, Target, pack};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that the process may have.
const FEW: u64 = 64;

#[test]
fn what_is_replaced_and_stays_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("new")).unwrap();
    fs::write(path("new/file"), "new").unwrap();
    // Who removes it has each folder open in which it is.
    let deep: PathBuf = std::iter::repeat_n("deep", 100).collect();
    fs::create_dir_all(path("place").join(deep)).unwrap();

    let root = Root::open(folder.path()).unwrap();
    let place = root.place(Path::new("/new"), false).unwrap();
    let (archive, _) = pack(&place, &place.name, Vec::new()).unwrap();
    let draft = Draft::begin(Target::find(&root, Path::new("/place"), None, true).unwrap()).unwrap();
    let (top, _) = draft.unpack(0, archive.as_slice()).unwrap();

    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(FEW), ..before }).unwrap();
    let error = draft.commit(&top).unwrap_err();
    setrlimit(Resource::Nofile, before).unwrap();

    assert_eq!(fs::read_to_string(path("place/file")).unwrap(), "new");
    let ArchiveError::Remains { name, .. } = &error else { panic!("{error}") };
    assert!(path(name).join("new/deep/deep").is_dir(), "{error}");
    assert!(error.source().is_some() && error.to_string().contains(name.as_str()), "{error}");

    // The next one has enough of them.
    drop(Draft::begin(Target::find(&root, Path::new("/place"), None, true).unwrap()).unwrap());
    assert!(!path(name).exists());
}
