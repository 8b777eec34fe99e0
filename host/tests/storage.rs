//! Backends on real file systems.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says why it fails or is skipped")]

mod scratch;

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use nexus_host::storage::{self, DISK, Digest, Progress, StorageError, WorkspaceBackend, digest_of};
use nexus_model::{BackendKind, ErrorKind};
use scratch::{LoopFs, as_nobody, mode, names, not_run};

const MIB: u64 = 1 << 20;

/// A master of 8 MiB with 1 MiB of data in the middle.
fn make_master(backend: &dyn WorkspaceBackend, destination: &Path) {
    let draft = backend.create_master(destination).unwrap();
    let disk = File::create_new(draft.disk()).unwrap();
    disk.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    disk.set_len(8 * MIB).unwrap();
    disk.write_all_at(&vec![7; MIB as usize], 4 * MIB).unwrap();
    assert!(!destination.exists());
    backend.seal_master(draft).unwrap();
}

fn digest(path: &Path) -> Digest {
    digest_of(&path.join(DISK), &Progress::default()).unwrap().0
}

/// What every backend promises, on whatever `root` is.
fn keeps_its_promises(root: &Path, kind: BackendKind) {
    let backend = storage::detect(root, Some(kind)).unwrap();
    assert_eq!(backend.kind(), kind);
    assert_eq!(names(root), [""; 0], "the probe left something");
    let (image, workspace) = (root.join("images/base"), root.join("workspaces/@demo"));
    fs::create_dir_all(workspace.parent().unwrap()).unwrap();
    make_master(backend.as_ref(), &image);
    assert_eq!(names(image.parent().unwrap()), ["base"]);

    // A master is read-only: for root, who may anything, only a read-only subvolume is.
    if kind == BackendKind::Btrfs {
        assert!(File::create(image.join("other")).is_err());
        assert!(File::options().write(true).open(image.join(DISK)).is_err());
        assert_eq!(mode(&image.join(DISK)), 0o600);
    } else {
        assert_eq!((mode(&image), mode(&image.join(DISK))), (0o500, 0o400));
    }

    let progress = Progress::default();
    backend.snapshot(&image, &workspace, &progress).unwrap();
    assert_eq!((progress.completed(), progress.total()), (8 * MIB, 8 * MIB));
    assert_eq!((mode(&workspace), mode(&workspace.join(DISK))), (0o700, 0o600));
    assert_eq!(digest(&workspace), digest(&image));

    let usage = backend.usage(&workspace).unwrap();
    assert_eq!(usage.apparent, 8 * MIB);
    assert!((MIB..2 * MIB).contains(&usage.allocated), "{usage:?}");
    match kind {
        BackendKind::Copy => assert_eq!(usage.exclusive, usage.allocated),
        _ => assert_eq!(usage.exclusive, 0, "{usage:?}"),
    }

    // What the guest writes is its own, and not the master's.
    let before = digest(&image);
    let disk = File::options().write(true).open(workspace.join(DISK)).unwrap();
    disk.write_all_at(&vec![9; 64 << 10], 2 * MIB).unwrap();
    disk.write_all_at(&vec![9; 64 << 10], 4 * MIB).unwrap();
    disk.sync_all().unwrap();
    assert_eq!(digest(&image), before);
    assert_ne!(digest(&workspace), before);
    let usage = backend.usage(&workspace).unwrap();
    if kind != BackendKind::Copy {
        assert!((128 << 10..512 << 10).contains(&usage.exclusive), "{usage:?}");
    }

    // A name is never taken twice, and the failure leaves nothing.
    assert!(matches!(
        backend.snapshot(&image, &workspace, &Progress::default()),
        Err(StorageError::AlreadyExists(path)) if path == workspace
    ));
    assert!(matches!(backend.create_master(&image), Err(StorageError::AlreadyExists(_))));
    let absent = backend.snapshot(&root.join("images/absent"), &root.join("workspaces/@x"), &Progress::default());
    assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names(workspace.parent().unwrap()), ["@demo"]);

    // Removal is idempotent, and takes whatever is there.
    for path in [&workspace, &image, &workspace] {
        backend.remove(path).unwrap();
        assert!(!path.exists());
    }
    let stray = root.join("workspaces/@stray");
    fs::write(&stray, "a file").unwrap();
    backend.remove(&stray).unwrap();
    let kept = root.join("kept");
    fs::create_dir(&kept).unwrap();
    symlink(&kept, &stray).unwrap();
    backend.remove(&stray).unwrap();
    assert!(kept.is_dir());
    assert_eq!(names(workspace.parent().unwrap()), [""; 0]);
    assert_eq!(names(image.parent().unwrap()), [""; 0]);
    assert!(backend.free_bytes().unwrap() > 0);
    assert_eq!(backend.usage(&workspace).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn copy_on_the_file_system_of_temporary_files() {
    let root = tempfile::tempdir().unwrap();
    keeps_its_promises(root.path(), BackendKind::Copy);
}

#[test]
fn btrfs_for_root() {
    let Some(btrfs) = LoopFs::new("btrfs", 512) else { return };
    keeps_its_promises(btrfs.path(), BackendKind::Btrfs);
}

#[test]
fn btrfs_for_an_ordinary_user() {
    let Some(btrfs) = LoopFs::new("btrfs", 512) else { return };
    let home = btrfs.folder_of_nobody();
    as_nobody(|| {
        assert_eq!(storage::detect(&home, None).unwrap().kind(), BackendKind::Btrfs);
        keeps_its_promises(&home, BackendKind::Btrfs);
        // Nothing else did the removal above: subvolumes can't be deleted as such here.
        let subvolume = home.join("subvolume");
        libbtrfsutil::create_subvolume(&subvolume).unwrap();
        assert!(libbtrfsutil::delete_subvolume(&subvolume).is_err());
    });
}

#[test]
fn reflink_on_btrfs() {
    let Some(btrfs) = LoopFs::new("btrfs", 512) else { return };
    keeps_its_promises(btrfs.path(), BackendKind::Reflink);
}

#[test]
fn reflink_on_xfs_for_an_ordinary_user() {
    let Some(xfs) = LoopFs::new("xfs", 512) else { return };
    let home = xfs.folder_of_nobody();
    as_nobody(|| {
        assert_eq!(storage::detect(&home, None).unwrap().kind(), BackendKind::Reflink);
        keeps_its_promises(&home, BackendKind::Reflink);
    });
}

#[test]
fn detection_takes_the_best_that_works_and_says_why_not() {
    let Some(ext4) = LoopFs::new("ext4", 64) else { return };
    let root = ext4.path().join("nexus");
    assert_eq!(storage::detect(&root, None).unwrap().kind(), BackendKind::Copy);
    assert_eq!(mode(&root), 0o700);
    for kind in [BackendKind::Btrfs, BackendKind::Reflink] {
        let error = storage::detect(&root, Some(kind)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnsupported);
        assert!(error.to_string().contains(&format!("{kind} storage cannot be had in")), "{error}");
    }
    assert_eq!(names(&root), [""; 0]);
}

#[test]
fn shared_blocks_end_at_the_file_system() {
    let (Some(first), Some(second)) = (LoopFs::new("btrfs", 256), LoopFs::new("btrfs", 256)) else { return };
    for kind in [BackendKind::Btrfs, BackendKind::Reflink] {
        let backend = storage::detect(first.path(), Some(kind)).unwrap();
        let image = first.path().join(kind.as_str());
        make_master(backend.as_ref(), &image);
        let error = backend.snapshot(&image, &second.path().join("@demo"), &Progress::default()).unwrap_err();
        assert!(matches!(error, StorageError::DifferentFileSystems { .. }), "{error}");
        assert_eq!(names(second.path()), [""; 0]);
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let Some(ext4) = LoopFs::new("ext4", 64) else { return };
    let root = ext4.path().join("nexus");
    let backend = storage::detect(&root, None).unwrap();
    let image = root.join("images/base");
    let draft = backend.create_master(&image).unwrap();
    fs::write(draft.disk(), vec![1; 30 * MIB as usize]).unwrap();
    backend.seal_master(draft).unwrap();
    let free = backend.free_bytes().unwrap();
    assert!(free < 30 * MIB, "{free}");

    let workspace = root.join("workspaces/@demo");
    let error = backend.snapshot(&image, &workspace, &Progress::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourcesExhausted, "{error}");
    assert_eq!(names(workspace.parent().unwrap()), [""; 0]);
    assert_eq!(backend.free_bytes().unwrap().abs_diff(free) / MIB, 0, "space was not given back");
    backend.remove(&image).unwrap();
    assert!(backend.free_bytes().unwrap() > 30 * MIB);
}

#[test]
fn a_full_btrfs_lets_workspaces_be_removed() {
    let Some(btrfs) = LoopFs::new("btrfs", 256) else { return };
    let backend = storage::detect(btrfs.path(), Some(BackendKind::Btrfs)).unwrap();
    let (image, workspace) = (btrfs.path().join("base"), btrfs.path().join("@demo"));
    make_master(backend.as_ref(), &image);
    backend.snapshot(&image, &workspace, &Progress::default()).unwrap();
    let disk = File::options().append(true).open(workspace.join(DISK)).unwrap();
    let block = vec![3; MIB as usize];
    while std::io::Write::write_all(&mut &disk, &block).and_then(|()| disk.sync_data()).is_ok() {}
    drop(disk);
    backend.remove(&workspace).unwrap();
    assert_eq!(names(btrfs.path()), ["base"]);
}

#[test]
fn a_cancel_leaves_nothing_half_made() {
    let root = tempfile::tempdir().unwrap();
    let backend = storage::detect(root.path(), Some(BackendKind::Copy)).unwrap();
    let image = root.path().join("base");
    make_master(backend.as_ref(), &image);
    let slot: Arc<std::sync::OnceLock<Progress>> = Arc::default();
    let watched = Arc::clone(&slot);
    let progress = Progress::new(move |completed, _| {
        if completed > 0 {
            watched.get().unwrap().cancel();
        }
    });
    slot.set(progress.clone()).unwrap();
    let error = backend.snapshot(&image, &root.path().join("@demo"), &progress).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(names(root.path()), ["base"]);
}

#[test]
fn a_dropped_draft_is_gone_and_a_live_one_is_not_swept() {
    for (_guard, root, kind) in grounds() {
        let backend = storage::detect(&root, Some(kind)).unwrap();
        let draft = backend.create_master(&root.join("base")).unwrap();
        fs::write(draft.disk(), "half").unwrap();
        assert!(backend.sweep(&root).unwrap().is_empty());
        assert!(draft.path().exists());
        drop(draft);
        assert_eq!(names(&root), [""; 0]);
    }
}

#[test]
fn a_sweep_takes_what_a_kill_left_and_nothing_else() {
    for (_guard, root, kind) in grounds() {
        let backend = storage::detect(&root, Some(kind)).unwrap();
        make_master(backend.as_ref(), &root.join("base"));
        // What a killed process leaves: its draft without its lock, sealed or not; and a file.
        let draft = backend.create_master(&root.join("next")).unwrap();
        fs::write(draft.disk(), "half").unwrap();
        let left = root.join(".tmp-0123456789abcdef");
        backend.snapshot(&root.join("base"), &left, &Progress::default()).unwrap();
        let sealed = root.join(".tmp-sealed");
        make_master(backend.as_ref(), &sealed);
        fs::write(root.join(".tmp-file"), "half").unwrap();
        fs::write(root.join(".other"), "whole").unwrap();
        let mut swept = backend.sweep(&root).unwrap();
        swept.sort();
        assert_eq!(swept, [left, root.join(".tmp-file"), sealed]);
        drop(draft);
        assert_eq!(names(&root), [".other", "base"]);
        assert!(backend.sweep(&root.join("absent")).unwrap().is_empty());
    }
}

#[test]
fn what_took_the_name_meanwhile_stays() {
    for (_guard, root, kind) in grounds() {
        let backend = storage::detect(&root, Some(kind)).unwrap();
        let draft = backend.create_master(&root.join("base")).unwrap();
        fs::write(draft.disk(), "second").unwrap();
        // An empty folder is what a plain rename would replace.
        fs::create_dir(root.join("base")).unwrap();
        assert!(matches!(backend.seal_master(draft), Err(StorageError::AlreadyExists(_))));
        assert_eq!(names(&root), ["base"]);
        assert_eq!(names(&root.join("base")), [""; 0]);
    }
}

#[test]
fn holes_stay_holes_and_count_in_the_digest() {
    let root = tempfile::tempdir().unwrap();
    let (sparse, dense) = (root.path().join("sparse"), root.path().join("dense"));
    let file = File::create(&sparse).unwrap();
    file.set_len(3 * MIB + 5).unwrap();
    file.write_all_at(b"data", MIB + 3).unwrap();
    fs::write(&dense, fs::read(&sparse).unwrap()).unwrap();
    let progress = Progress::default();
    let (digest, length) = digest_of(&sparse, &progress).unwrap();
    assert_eq!((length, progress.completed()), (3 * MIB + 5, 3 * MIB + 5));
    assert!(fs::metadata(&sparse).unwrap().blocks() * 512 < MIB, "the file system keeps no holes");
    assert_eq!(digest, digest_of(&dense, &Progress::default()).unwrap().0);
    assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    // sha256sum of no bytes at all
    assert_eq!(Digest::of(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for text in ["", "e3b0", &"g".repeat(64), &"é".repeat(32)] {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
}

/// One place for each backend that can be had here.
fn grounds() -> Vec<(Box<dyn std::any::Any>, PathBuf, BackendKind)> {
    let plain = tempfile::tempdir().unwrap();
    let path = plain.path().to_owned();
    let mut grounds: Vec<(Box<dyn std::any::Any>, _, _)> = vec![(Box::new(plain), path, BackendKind::Copy)];
    match LoopFs::new("btrfs", 256) {
        Some(btrfs) => {
            let path = btrfs.path().join("nexus");
            fs::create_dir(&path).unwrap();
            grounds.push((Box::new(btrfs), path, BackendKind::Btrfs));
        }
        None => not_run("without btrfs, only copies are tested"),
    }
    grounds
}
