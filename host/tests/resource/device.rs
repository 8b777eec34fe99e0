//! Network devices.

use std::{path::Path, process::Command};

use nexus_host::resource::Place;
use nexus_model::ResourceKind;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use crate::{
    ground::{doubt, ground},
    scratch::not_run,
};

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Shows the devices of the calling thread, which gets a network of its own.
fn network(devices: &Path) -> bool {
    if !geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
        not_run("only root can have a network of its own, and `ip` makes its devices");
        return false;
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    // It shows the network of whoever mounts it.
    mount(Some("none"), devices, Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
    true
}

#[test]
fn a_device_that_names_this_nexus_is_shown() {
    let (root, devices) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if !network(devices.path()) {
        return;
    }
    let mut ground = ground(root.path());
    ground.devices = devices.path().join("class/net");
    let instance = ground.instance;
    for (device, alias) in [
        ("nx0", format!("nexus-{instance}-0000000000000001")),
        ("nx1", format!("nexus-{instance}")),
        ("nx2", format!("nexus-{instance}0-0000000000000001")),
        ("nx3", format!("uplink nexus-{instance}")),
        ("nx4", "nexus-00000000-1".to_owned()),
    ] {
        ip(&["link", "add", device, "type", "bridge"]);
        ip(&["link", "set", device, "alias", &alias]);
    }
    let found: Vec<_> =
        ground.resources(&[]).unwrap().into_iter().filter(|found| found.kind == ResourceKind::Device).collect();
    let names: Vec<&Place> = found.iter().map(|found| &found.place).collect();
    assert_eq!(names, [&Place::Device("nx0".to_owned()), &Place::Device("nx1".to_owned())]);
    assert!(doubt(&found[0]).contains("ip link delete"));
    ground.erase(&found[0]).unwrap_err();
    assert!(devices.path().join("class/net/nx0").exists());
    nix::mount::umount2(devices.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}
