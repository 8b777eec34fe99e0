//! Files and folders.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

use nexus_host::{
    resource::{Ground, Owner, Standing},
    storage::{self, DISK},
};
use nexus_model::{InstanceId, ResourceKind};
use nix::unistd::{Uid, geteuid, setfsuid};

use crate::{
    ground::{at, by_id, doubt, folder, ground, listed, marks, soon_at, workspace},
    scratch::{LoopFs, NOBODY, not_run},
};

#[test]
fn everything_under_its_names_is_listed_with_what_may_become_of_it() {
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let runtime = by_id(&ground.runtimes, &["process.json", "exit.json", "token", "start.sock"]);
    fs::create_dir(runtime.join("vmm")).unwrap();
    let console = by_id(&ground.consoles, &["console.log", "console.log.1", "console.previous.log"]);
    let asset = by_id(&ground.assets, &["vmlinuz", "vmlinux"]);
    let web = workspace(&ground, "web");
    let image = folder(&ground.images.join("debian-12"), &[DISK]);
    let text = |path: &Path| path.display().to_string();
    let expected = [
        (ResourceKind::Runtime, text(&runtime), Standing::Ours),
        (ResourceKind::Console, text(&console), Standing::Ours),
        (ResourceKind::Asset, text(&asset), Standing::Ours),
        (ResourceKind::Workspace, text(&web), Standing::Data),
        (ResourceKind::Image, text(&image), Standing::Data),
    ];
    assert_eq!(listed(&ground), expected);
    assert_eq!(at(&ground, &web).unwrap().owner, Owner::Workspace("web".parse().unwrap()));
    assert_eq!(at(&ground, &image).unwrap().owner, Owner::Image("debian-12".parse().unwrap()));
    for path in [&runtime, &console, &asset, &web, &image] {
        let found = at(&ground, path).unwrap();
        assert!(found.allocated_bytes() > 0 && found.is_there());
        ground.erase(&found).unwrap();
        assert!(!path.exists() && !found.is_there());
        ground.erase(&found).unwrap();
    }
    assert_eq!(listed(&ground), []);
}

#[test]
fn what_somebody_put_there_stays() {
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let elsewhere = folder(&root.path().join("elsewhere"), &["kept"]);
    let strangers = [
        folder(&ground.runtimes.join("notes"), &[]),
        folder(&ground.workspaces.join("web"), &[DISK]),
        folder(&ground.workspaces.join(".tmp-mine"), &[DISK]),
        folder(&ground.assets.join("kernel-6.1"), &["vmlinuz"]),
        ground.images.join("debian.img"),
        ground.runtimes.join("00000000000000aa"),
        ground.assets.join("00000000000000bb"),
    ];
    fs::write(&strangers[4], "x").unwrap();
    fs::write(&strangers[5], "x").unwrap();
    symlink(&elsewhere, &strangers[6]).unwrap();
    // Theirs is what they put into something that was Nexus'.
    let mixed = [
        by_id(&ground.runtimes, &["token", "notes.txt"]),
        by_id(&ground.consoles, &["console.log", "why.txt"]),
        folder(&ground.workspaces.join("@web"), &[DISK, "notes.txt"]),
        // And what never was one.
        folder(&ground.workspaces.join("@empty"), &[]),
        folder(&ground.images.join("holiday"), &["beach.jpg"]),
    ];
    for path in strangers.iter().chain(&mixed) {
        let found = at(&ground, path).unwrap_or_else(|| panic!("{} is not listed", path.display()));
        assert_eq!(found.kind == ResourceKind::File, strangers.contains(path), "{found:?}");
        assert!(!doubt(&found).is_empty());
        ground.erase(&found).unwrap_err();
        assert!(path.symlink_metadata().is_ok(), "{} is gone", path.display());
    }
    assert_eq!(listed(&ground).len(), strangers.len() + mixed.len());
    assert!(elsewhere.join("kept").exists());
}

#[test]
fn what_another_user_owns_stays() {
    if !geteuid().is_root() {
        return not_run("only root can make files of another user");
    }
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let runtime = by_id(&ground.runtimes, &[]);
    chown(&runtime, Some(NOBODY), Some(NOBODY)).unwrap();
    assert!(doubt(&at(&ground, &runtime).unwrap()).contains("another user"));
}

/// One of them stopped it all.
#[test]
fn what_can_t_be_looked_at_stays_and_the_others_are_as_ever() {
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let runtime = by_id(&ground.runtimes, &["token"]);
    let closed = by_id(&ground.runtimes, &["token"]);
    // Its names can be read, and nothing else of what they name.
    let console = by_id(&ground.consoles, &[]);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let folders = [&ground.runtimes, &ground.workspaces, &ground.images, &ground.assets];
    for folder in ground.roots.iter().chain(folders).map(PathBuf::as_path).chain([root.path()]) {
        mode(folder, 0o755);
    }
    mode(&closed, 0);
    mode(&ground.consoles, 0o644);
    // Root looks at everything, with any other user's rights it can't.
    let everything = geteuid().is_root().then(|| setfsuid(Uid::from_raw(NOBODY)));
    let found = ground.resources(&[]);
    everything.map(setfsuid);
    for path in [&closed, &ground.consoles] {
        mode(path, 0o755);
    }
    let found = found.unwrap();
    let of = |path: &Path| found.iter().find(|found| found.place.to_string() == path.display().to_string()).unwrap();
    assert_eq!((of(&runtime).kind, &of(&runtime).standing), (ResourceKind::Runtime, &Standing::Ours));
    for path in [&closed, &console] {
        assert!(doubt(of(path)).contains("it can't be looked at: Permission denied"), "{:?}", of(path));
        assert_eq!(of(path).kind, ResourceKind::File);
        ground.erase(of(path)).unwrap_err();
        assert!(path.exists());
    }
    assert_eq!(at(&ground, &closed).unwrap().standing, Standing::Ours);
}

#[test]
fn in_a_folder_that_two_use_nothing_is_surely_anybody_s() {
    let root = tempfile::tempdir().unwrap();
    let mine = ground(root.path());
    let web = workspace(&mine, "web");
    let asset = by_id(&mine.assets, &["initrd"]);
    let runtime = by_id(&mine.runtimes, &[]);
    let before = at(&mine, &asset).unwrap();
    assert_eq!(before.standing, Standing::Ours);

    // The other one has the data in common, and nothing else.
    let mut theirs = ground(&root.path().join("other"));
    theirs.instance = InstanceId::random().unwrap();
    theirs.roots[0] = mine.roots[0].clone();
    theirs.assets = mine.assets.clone();
    theirs.workspaces = mine.workspaces.clone();
    theirs.claim().unwrap();
    for ground in [&mine, &theirs] {
        for path in [&web, &asset] {
            assert!(doubt(&at(ground, path).unwrap()).contains("another Nexus"));
        }
    }
    // What was listed before the other one came.
    let error = mine.erase(&before).unwrap_err();
    assert!(error.to_string().contains("another Nexus"), "{error}");
    assert!(asset.exists());
    assert_eq!(at(&mine, &runtime).unwrap().standing, Standing::Ours);
}

/// Each looked at the mark in its own outermost folder only, and took the other one's disks for its own.
#[test]
fn where_folders_of_two_are_nested_nothing_is_surely_anybody_s() {
    let root = tempfile::tempdir().unwrap();
    let mine = ground(root.path());
    let web = workspace(&mine, "web");
    let image = folder(&mine.images.join("debian-12"), &[DISK]);
    let mut theirs = ground(&root.path().join("other"));
    theirs.workspaces = mine.workspaces.clone();
    theirs.roots.push(mine.workspaces.clone());
    theirs.claim().unwrap();
    for ground in [&mine, &theirs] {
        assert!(doubt(&at(ground, &web).unwrap()).contains("another Nexus"));
    }
    // What they do not share is whose it was.
    assert_eq!(at(&mine, &image).unwrap().standing, Standing::Data);
}

#[test]
fn in_a_folder_that_nobody_claimed_nothing_is_surely_anybody_s() {
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let asset = by_id(&ground.assets, &[]);
    fs::remove_file(&marks(&root.path().join("data"))[0]).unwrap();
    let found = at(&ground, &asset).unwrap();
    assert!(doubt(&found).contains("does not say"));
    ground.claim().unwrap();
    assert_eq!(at(&ground, &asset).unwrap().standing, Standing::Ours);
}

/// Its instance is that of the original, and so were the marks: each took for its own what the other one had made since.
#[test]
fn a_copy_of_a_state_folder_is_another_nexus() {
    let root = tempfile::tempdir().unwrap();
    let original = ground(root.path());
    let (asset, runtime) = (by_id(&original.assets, &["initrd"]), by_id(&original.runtimes, &[]));
    // As with a copy of the home folder, for which the folder for sockets is the same.
    let mut copy = original.clone();
    copy.state = root.path().join("copy/state");
    copy.consoles = copy.state.join("vm");
    copy.roots = vec![copy.state.clone(), root.path().join("data"), root.path().join("run")];
    fs::create_dir(root.path().join("copy")).unwrap();
    let copied = Command::new("cp").arg("-a").args([&original.state, &copy.state]).status().unwrap();
    assert!(copied.success());
    for path in [&asset, &runtime] {
        assert!(doubt(&at(&copy, path).unwrap()).contains("another Nexus"));
        assert_eq!(at(&original, path).unwrap().standing, Standing::Ours);
    }
    copy.claim().unwrap();
    for ground in [&original, &copy] {
        for path in [&asset, &runtime] {
            let found = at(ground, path).unwrap();
            assert!(doubt(&found).contains("another Nexus"));
            ground.erase(&found).unwrap_err();
        }
    }

    // Another name is no copy.
    let mut moved = original;
    for folder in ["data", "run"].map(|name| root.path().join(name)).iter().chain([&moved.assets, &moved.runtimes]) {
        let theirs = marks(folder)
            .into_iter()
            .find(|mark| fs::read(mark).unwrap().starts_with(copy.state.as_os_str().as_bytes()));
        fs::remove_file(theirs.unwrap()).unwrap();
    }
    moved.state = root.path().join("elsewhere");
    fs::rename(root.path().join("state"), &moved.state).unwrap();
    assert_eq!(at(&moved, &asset).unwrap().standing, Standing::Ours);
}

/// A snapshot's folders have the inodes of what it was made of.
#[test]
fn a_snapshot_of_a_state_folder_is_another_nexus() {
    let Some(file_system) = LoopFs::new("btrfs", 256) else { return };
    let mut original = ground(file_system.path());
    let backend = storage::detect(&original.workspaces, Some(nexus_model::BackendKind::Btrfs)).unwrap();
    let image = original.images.join("home");
    let draft = backend.create_master(&image).unwrap();
    fs::write(draft.disk(), "x").unwrap();
    backend.seal_master(draft).unwrap();
    original.state = image;
    let mut snapshot = original.clone();
    snapshot.state = file_system.path().join("snapshot");
    backend.snapshot(&original.state, &snapshot.state, &storage::Progress::default()).unwrap();
    let inode = |ground: &Ground| fs::metadata(&ground.state).unwrap().ino();
    assert_eq!(inode(&original), inode(&snapshot));
    original.roots.retain(|root| !root.ends_with("state"));
    original.claim().unwrap();
    let asset = by_id(&original.assets, &[]);
    assert!(doubt(&at(&snapshot, &asset).unwrap()).contains("another Nexus"));
}

#[test]
fn what_lies_beside_nexus_folders_is_shown() {
    let root = tempfile::tempdir().unwrap();
    let mut ground = ground(root.path());
    fs::write(&ground.files[0], "x").unwrap();
    // Not a stranger either, though nothing of it is there yet.
    ground.roots.push(root.path().join("data/far/away"));
    ground.claim().unwrap();
    assert_eq!(listed(&ground), []);

    let strangers = [root.path().join("data/notes"), root.path().join("run/socket"), root.path().join("state/old.db")];
    folder(&strangers[0], &["readme"]);
    for file in &strangers[1..] {
        fs::write(file, "x").unwrap();
    }
    for path in &strangers {
        let found = at(&ground, path).unwrap_or_else(|| panic!("{} is not listed", path.display()));
        assert_eq!(found.kind, ResourceKind::File);
        assert!(doubt(&found).contains("no such names"));
        ground.erase(&found).unwrap_err();
    }
    assert_eq!(listed(&ground).len(), strangers.len());
}

#[test]
fn what_has_taken_its_place_stays() {
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let web = workspace(&ground, "web");
    let found = at(&ground, &web).unwrap();
    fs::rename(&web, root.path().join("moved")).unwrap();
    assert!(!found.is_there());
    let newer = workspace(&ground, "web");
    assert!(!found.is_there());
    let error = ground.erase(&found).unwrap_err();
    assert!(error.to_string().contains("another one"), "{error}");
    assert!(newer.join(DISK).exists());
}

#[test]
fn a_draft_is_an_orphan_once_nobody_works_on_it() {
    let root = tempfile::tempdir().unwrap();
    let ground = ground(root.path());
    let backend = storage::detect(&ground.images, None).unwrap();
    let draft = backend.create_master(&ground.images.join("debian")).unwrap();
    let left = folder(&ground.assets.join(".tmp-00000000000000aa"), &["source"]);
    // By then both are old enough to be listed.
    let found = soon_at(&ground, &left);
    assert_eq!((found.kind, &found.standing), (ResourceKind::Draft, &Standing::Ours));
    assert_eq!(at(&ground, draft.path()), None);
    ground.erase(&found).unwrap();
    assert!(!left.exists());

    // As a kill leaves it.
    let path = draft.path().to_owned();
    let copy = folder(&ground.images.join(".tmp-00000000000000bb"), &[DISK]);
    let found = soon_at(&ground, &copy);
    drop(draft);
    assert!(!path.exists());
    let lock = nix::fcntl::Flock::lock(fs::File::open(&copy).unwrap(), nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .unwrap();
    let error = ground.erase(&found).unwrap_err();
    assert!(error.to_string().contains("works on it"), "{error}");
    assert!(copy.exists());
    drop(lock);
    ground.erase(&found).unwrap();
    assert!(!copy.exists());
}

#[test]
fn subvolumes_are_listed_and_removed_as_such() {
    let Some(file_system) = LoopFs::new("btrfs", 256) else { return };
    let ground = ground(file_system.path());
    let backend = storage::detect(&ground.workspaces, Some(nexus_model::BackendKind::Btrfs)).unwrap();
    let image = ground.images.join("base");
    let draft = backend.create_master(&image).unwrap();
    fs::write(draft.disk(), vec![7; 1 << 20]).unwrap();
    backend.seal_master(draft).unwrap();
    let web = ground.workspaces.join("@web");
    backend.snapshot(&image, &web, &storage::Progress::default()).unwrap();
    for (path, kind) in [(&web, ResourceKind::Workspace), (&image, ResourceKind::Image)] {
        let found = at(&ground, path).unwrap();
        assert_eq!((found.kind, &found.standing), (kind, &Standing::Data));
        assert!(found.allocated_bytes() >= 1 << 20);
        ground.erase(&found).unwrap();
        assert!(!path.exists());
    }
    assert_eq!(listed(&ground), []);
}
