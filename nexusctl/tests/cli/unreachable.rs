//! When there is no daemon.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{bus::PrivateBus, nexusctl, parts};

/// Everything that asks the daemon, and how it ends without one.
const ASKING: [(&[&str], i32); 9] = [
    (&["status"], 1),
    (&["tree"], 1),
    (&["vm", "list"], 1),
    (&["vm", "start", "one", "two"], 1),
    (&["image", "list", "-o", "json"], 1),
    (&["ws", "delete", "web", "--yes"], 1),
    (&["job", "list"], 1),
    (&["exec", "web", "--", "true"], 125),
    (&["run", "alpine", "--", "true"], 125),
];

fn on(bus: &PrivateBus, arguments: &[&str]) -> Command {
    let mut command = nexusctl(arguments);
    command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    command
}

#[test]
fn a_bus_without_the_daemon() {
    let bus = PrivateBus::start();
    for (arguments, code) in ASKING {
        let expected = "Error: cannot reach Nexus on the session bus\n  \
                          The daemon is not running.\n  \
                          Start it: nexusd\n";
        let output = on(&bus, arguments).output().unwrap();
        assert_eq!(parts(&output), (Some(code), String::new(), expected.to_owned()), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_bus_with_systemd_and_without_the_daemon() {
    let bus = PrivateBus::start();
    let _systemd =
        zbus::connection::Builder::address(bus.address()).name("org.freedesktop.systemd1").build().await.unwrap();
    let command = on(&bus, &["status"]);
    let output = tokio::task::spawn_blocking(move || { command }.output().unwrap()).await.unwrap();
    let expected = "Error: cannot reach Nexus on the session bus\n  \
                      The daemon is not running.\n  \
                      Start it: systemctl --user start nexus.service\n";
    assert_eq!(parts(&output), (Some(1), String::new(), expected.to_owned()));
}

/// Regression: it waited for half a minute without a word, and heard no Ctrl-C.
#[test]
fn a_daemon_that_does_not_come_up_is_not_waited_for_in_silence() {
    let bus = PrivateBus::with_a_daemon_that_hangs();
    let mut exec = on(&bus, &["exec", "web", "--", "true"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(exec.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "The daemon is not running yet. Waiting for it, for 28 s at most.");
    kill(Pid::from_raw(i32::try_from(exec.id()).unwrap()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(rest, ["Error: interrupted before the command ran in VM web"]);
    assert_eq!(exec.wait().unwrap().code(), Some(130));
}

#[test]
fn no_bus() {
    for (arguments, code) in ASKING {
        let (status, stdout, stderr) = parts(&nexusctl(arguments).output().unwrap());
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{arguments:?}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(
            lines,
            [
                "Error: cannot reach Nexus on the session bus",
                "  There is no session bus here.",
                "  Start one, and the daemon in it: dbus-run-session -- sh -c 'nexusd & exec \"$SHELL\"'",
            ],
            "{arguments:?}"
        );
    }
}

#[test]
fn a_bus_that_is_gone() {
    let mut command = nexusctl(&["status"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let (status, _, stderr) = parts(&command.output().unwrap());
    assert_eq!(status, Some(1));
    assert!(stderr.contains("unix:path=/nonexistent/bus`: No such file"), "{stderr}");
}

#[test]
fn version_needs_no_daemon() {
    let (status, stdout, stderr) = parts(&nexusctl(&["version"]).output().unwrap());
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("nexusctl ") && stdout.ends_with("nexusd is not running\n"), "{stdout}");
    let (status, stdout, _) = parts(&nexusctl(&["version", "-o", "json"]).output().unwrap());
    let value: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &value["nexusd"]), (Some(0), &serde_json::Value::Null));
}

#[test]
fn doctor_works_without_the_daemon_and_says_what_is_missing() {
    let bus = PrivateBus::start();
    let (status, stdout, stderr) = parts(&on(&bus, &["doctor"]).output().unwrap());
    assert_eq!(status, Some(1), "{stdout}");
    assert!(stdout.starts_with("ok        session-bus"), "{stdout}");
    assert!(stdout.contains("\nmissing   nexusd") && stdout.contains("kvm"), "{stdout}");
    assert!(stdout.contains("The daemon is not running. Start it: nexusd\n"), "{stdout}");
    assert!(stderr.starts_with("Error: this machine is not ready for Nexus\n  Missing: nexusd"), "{stderr}");
}

/// Regression: without the daemon, qemu went by the name of its program, and nexusd was there twice.
#[test]
fn doctor_names_things_as_the_daemon_does_and_says_what_to_do_about_them() {
    let bus = PrivateBus::start();
    let folder = tempfile::tempdir().unwrap();
    let doctor = || {
        let mut command = on(&bus, &["doctor", "-o", "json"]);
        let output = command.env("PATH", folder.path()).output().unwrap();
        let checks: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        checks
    };
    let checks = doctor();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["session-bus", "nexusd", "kvm", "firecracker", "qemu", "vhost-device-vsock", "vmm"]);
    for (name, advice) in [
        ("nexusd", "Start it: nexusd"),
        ("firecracker", "https://"),
        ("qemu", "install qemu-system-x86"),
        ("vhost-device-vsock", "make install"),
        ("vmm", "install"),
    ] {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(check["found"], false, "{check}");
        assert!(check["detail"].as_str().unwrap().contains(advice), "{check}");
    }

    let qemu = folder.path().join("qemu-system-x86_64");
    fs::write(&qemu, "").unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let checks = doctor();
    let check = checks.iter().find(|check| check["name"] == "qemu").unwrap();
    assert_eq!((&check["found"], &check["detail"]), (&true.into(), &qemu.to_str().unwrap().into()));
}
