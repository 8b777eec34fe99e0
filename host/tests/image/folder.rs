//! Folders.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
};

use nexus_host::{
    image::{self, HEADROOM_BYTES, ImageError, ImportRequest},
    storage::{self, DISK, Progress, StorageError},
};
use nexus_model::BackendKind;
use nix::unistd::geteuid;

use crate::{
    ground::{
        Ground, MIB, assert_clean, assert_root_folder, copy_backend, debugfs, inode, request, root_folder, small,
    },
    scratch::{LoopFs, NOBODY, as_nobody, names, not_run},
};

#[test]
fn a_folder_becomes_a_clean_disk_with_room_to_work_in() {
    let ground = Ground::new();
    let root = root_folder(ground.path());
    if geteuid().is_root() {
        chown(root.join("home/user/file with space"), Some(1000), Some(1001)).unwrap();
    }
    let imported = ground.import(&request(&root)).unwrap();
    assert_eq!(imported.os_name.as_deref(), Some("Test Linux"));
    assert_eq!(imported.os_version.as_deref(), Some("7.1"));
    assert_eq!(imported.metadata, [("name", "test"), ("revision", "4")].map(|(a, b)| (a.into(), b.into())).into());
    assert_eq!(names(&ground.images()), ["base"]);
    let disk = ground.disk();
    assert_eq!(fs::metadata(&disk).unwrap().len(), imported.size_bytes);
    assert!(imported.size_bytes >= HEADROOM_BYTES);
    // Nothing was written just to be zero.
    assert!(fs::metadata(&disk).unwrap().blocks() * 512 < 4 * MIB, "{}", fs::metadata(&disk).unwrap().blocks() * 512);
    assert_root_folder(&disk);
    if geteuid().is_root() {
        assert!(inode(&disk, "/home/user/file with space").contains("User: 1000 Group: 1001"));
    }
    let statistics = debugfs(&disk, "stats -h");
    assert!(statistics.contains("Filesystem volume name:   nexus\n"), "{statistics}");
    assert!(!statistics.contains("orphan_file") && !statistics.contains("metadata_csum_seed"), "{statistics}");
    let free_blocks: u64 =
        statistics.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap().trim().parse().unwrap();
    assert!(free_blocks * 4096 >= HEADROOM_BYTES, "{free_blocks}");
    image::verify(&ground.images().join("base"), &imported.digest, &Progress::default()).unwrap();
}

#[test]
fn an_ordinary_users_folder_belongs_to_root_in_the_image() {
    if !geteuid().is_root() {
        return not_run("only root can become an ordinary user");
    }
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    as_nobody(|| {
        // The name is one that a shell would take apart.
        let odd = folder.path().join("a b'$(touch x)`;&");
        fs::create_dir(&odd).unwrap();
        let root = root_folder(&odd);
        let backend = copy_backend(&odd.join("data"));
        let image = odd.join("data/images/base");
        let imported = image::import(backend.as_ref(), &small(&root), &image, &Progress::default()).unwrap();
        assert_eq!(imported.size_bytes, 64 * MIB);
        assert_root_folder(&image.join(DISK));
        assert_eq!(names(&odd.join("data/images")), ["base"]);
        assert_eq!(names(&odd), ["data", "root"]);
    });
}

#[test]
fn what_an_image_says_of_itself_stays_inside_of_it() {
    let ground = Ground::new();
    let root = ground.path().join("root");
    fs::create_dir_all(root.join("etc/nexus")).unwrap();
    // Absolute, so that the host's would be read by who follows it on the host; and in a circle.
    symlink("/etc/hostname", root.join("etc/os-release")).unwrap();
    symlink("image.yaml", root.join("etc/nexus/image.yaml")).unwrap();
    let imported = ground.import(&small(&root)).unwrap();
    assert_eq!((imported.os_name, imported.os_version, imported.metadata.len()), (None, None, 0));
    ground.backend.remove(&ground.images().join("base")).unwrap();

    fs::remove_file(root.join("etc/nexus/image.yaml")).unwrap();
    fs::write(root.join("etc/nexus/image.yaml"), "just words").unwrap();
    let error = ground.refuses(&small(&root));
    assert!(matches!(error, ImageError::Metadata { .. }), "{error}");
    fs::write(root.join("etc/nexus/image.yaml"), vec![b' '; 1 << 20]).unwrap();
    assert!(ground.import(&small(&root)).unwrap().metadata.is_empty());
}

#[test]
fn a_size_that_does_not_hold_the_content_is_refused() {
    let ground = Ground::new();
    let root = root_folder(ground.path());
    fs::write(root.join("large"), vec![1; 30 * MIB as usize]).unwrap();
    for size in [0, MIB, 31 * MIB, 33 * MIB] {
        let error = ground.refuses(&ImportRequest { source: root.clone(), size_bytes: Some(size) });
        let ImageError::TooSmall { needed_bytes, .. } = error else { panic!("{size}: {error}") };
        assert!(needed_bytes > 36 * MIB);
    }
    let needed = ImportRequest { source: root.clone(), size_bytes: Some(74 * MIB) };
    ground.import(&needed).unwrap();
    assert_clean(&ground.disk());
}

#[test]
fn btrfs_masters_of_a_folder_are_snapshots_away_from_workspaces() {
    let Some(btrfs) = LoopFs::new("btrfs", 512) else { return };
    let ground = Ground::new();
    let root = root_folder(ground.path());
    let home = btrfs.folder_of_nobody();
    fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("home/user"), fs::Permissions::from_mode(0o755)).unwrap();
    as_nobody(|| {
        let backend = storage::detect(&home, None).unwrap();
        assert_eq!(backend.kind(), BackendKind::Btrfs);
        let (image, workspace) = (home.join("images/base"), home.join("workspaces/@demo"));
        fs::create_dir(home.join("workspaces")).unwrap();
        image::import(backend.as_ref(), &small(&root), &image, &Progress::default()).unwrap();
        backend.snapshot(&image, &workspace, &Progress::default()).unwrap();
        assert_clean(&workspace.join(DISK));
        assert_eq!(names(&home.join("images")), ["base"]);
        // The same name again is refused, and the image stays.
        let again = image::import(backend.as_ref(), &small(&root), &image, &Progress::default());
        assert!(matches!(again, Err(ImageError::Storage(StorageError::AlreadyExists(_)))));
        for path in [&workspace, &image] {
            backend.remove(path).unwrap();
        }
        assert_eq!((names(&home.join("images")), names(&home.join("workspaces"))), (vec![], vec![]));
    });
}
