//! What can be asked of a VM's connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    time::Duration,
};

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, Options},
};
use nexus_model::ErrorKind;
use nexus_tests::{PATIENCE, Signals, TestDaemon};

const CONNECTION: &str = "vm/web/connection/1";

async fn connection(daemon: &TestDaemon) -> ConnectionProxy<'static> {
    let builder = ConnectionProxy::builder(&daemon.client).path(format!("{ROOT}/{CONNECTION}"));
    builder.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
}

fn is_sleep(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
}

/// A daemon whose guests' hearts beat every second.
async fn daemon() -> TestDaemon {
    TestDaemon::configured("vmm:\n  allow-process: true\nvm:\n  heartbeat-sec: 1\n").await
}

#[tokio::test]
async fn a_connection_counts_what_it_carries() {
    let daemon = daemon().await;
    let vm = daemon.run("web", []).await;
    let connection = connection(&daemon).await;
    let before = connection.get_statistics().await.unwrap();
    assert_eq!(daemon.shell(&vm, "head -c 10000 /dev/zero | tr '\\0' x").await.1.len(), 10_000);
    let after = connection.get_statistics().await.unwrap();
    let more = |key: &str| after[key] - before[key];
    assert!(more("bytes-in") > 10_000 && more("bytes-out") > 30, "{before:?} {after:?}");
    assert!(more("frames-in") >= 1 && more("frames-out") >= 1, "{before:?} {after:?}");
    assert_eq!(after["reconnects"], 0);

    // Another run of the VM is another guest, and no reconnect.
    let restart = daemon.vm(&vm).await.restart(Options::new()).await.unwrap();
    daemon.done(&restart).await.unwrap();
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let last = connection.get_statistics().await.unwrap();
    assert!(last["bytes-in"] > after["bytes-in"] && last["reconnects"] == 0, "{after:?} {last:?}");
}

#[tokio::test]
async fn one_that_is_closed_is_opened_again_and_commands_go_on() {
    let daemon = daemon().await;
    let vm = daemon.run("web", []).await;
    let connection = connection(&daemon).await;
    let guest = daemon.guest(&vm).await;
    let (id, input, output, _) = guest.exec(&["cat"], Options::new()).await.unwrap();
    let opened_at = connection.opened_at().await.unwrap();
    let waiter = daemon.guest(&vm).await;
    let waiting = tokio::spawn(async move { waiter.run(&["sleep", "1000"], Options::new()).await });
    let carried = async {
        // What was asked for is on its way.
        while !daemon.home.processes().iter().any(|pid| is_sleep(*pid)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, carried).await.unwrap();
    let mut signals = Signals::of(&daemon.client).await;
    connection.close().await.unwrap();
    let ready = |value: bool| {
        move |signal: &nexus_tests::Signal| {
            let changed = signal.changed().filter(|_| signal.path == format!("{ROOT}/vm/web"));
            changed
                .is_some_and(|changed| changed.properties.get("GuestReady") == Some(&zbus::OwnedVariant::from(value)))
        }
    };
    for value in [false, true] {
        signals.until(ready(value)).await;
    }
    let broken = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
    assert_eq!(broken.kind(), Some(ErrorKind::GuestFailed), "{broken}");
    assert!(connection.opened_at().await.unwrap() > opened_at);
    assert_eq!(connection.get_statistics().await.unwrap()["reconnects"], 1);
    let actor = daemon.actor(&format!("{ROOT}/{CONNECTION}")).await;
    assert_eq!((actor.failure_count, actor.fault_count, actor.health.as_str()), (0, 0, "ok"), "it was asked for");

    let echoed = tokio::task::spawn_blocking(move || {
        File::from(std::os::fd::OwnedFd::from(input)).write_all(b"still here\n").unwrap();
        let mut text = String::new();
        File::from(std::os::fd::OwnedFd::from(output)).read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(tokio::time::timeout(PATIENCE, echoed).await.unwrap().unwrap(), "still here\n");
    assert_eq!(daemon.guest(&vm).await.wait_exec(id).await.unwrap(), (0, 0));

    // One that is not open can't be closed.
    let stop = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&stop).await.unwrap();
    let refused = connection.close().await.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::InvalidState), "{refused}");
}

#[tokio::test]
async fn a_heartbeat_is_seen_and_not_heard() {
    let daemon = daemon().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    let first = guest.last_heartbeat_at().await.unwrap();
    assert!(first >= guest.connected_at().await.unwrap());
    let mut signals = Signals::of(&daemon.client).await;
    let later = async {
        while guest.last_heartbeat_at().await.unwrap() <= first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, later).await.unwrap();
    // Nothing was told until something else was.
    daemon.vm(&vm).await.set_label("new").await.unwrap();
    let told = signals.until(|signal| signal.has("\"new\"")).await;
    assert!(!told.iter().any(|signal| signal.has("LastHeartbeatAt")), "{told:?}");
}
