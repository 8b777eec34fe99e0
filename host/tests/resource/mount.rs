//! Mounts below Nexus' folders.

use std::fs;

use nexus_host::resource::Place;
use nexus_model::ResourceKind;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    ground::{at, doubt, ground, workspace},
    scratch::LoopFs,
};

/// To remove a folder with a mount in it would remove what that holds.
#[test]
fn a_mount_is_shown_and_keeps_the_folder_that_it_is_in() {
    // Which also gives this thread mounts of its own.
    let Some(file_system) = LoopFs::new("ext4", 16) else { return };
    let ground = ground(file_system.path());
    let web = workspace(&ground, "web");
    let found = at(&ground, &web).unwrap();
    let (point, held) = (web.join("a place"), web.join("a place/kept"));
    fs::create_dir(&point).unwrap();
    mount(Some("none"), &point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(&held, "x").unwrap();

    // The file system that the folders lie on is none of these.
    let mounts: Vec<_> =
        ground.resources(&[]).unwrap().into_iter().filter(|found| found.kind == ResourceKind::Mount).collect();
    let [mounted] = &mounts[..] else { panic!("{mounts:?}") };
    assert_eq!(mounted.place, Place::Mount(point.canonicalize().unwrap()));
    assert!(doubt(mounted).contains("mounts nothing"));
    ground.erase(mounted).unwrap_err();
    let error = ground.erase(&found).unwrap_err();
    assert!(error.to_string().contains("unmount"), "{error}");
    assert!(held.exists());

    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir(&point).unwrap();
    ground.erase(&found).unwrap();
    assert!(!web.exists());
}
