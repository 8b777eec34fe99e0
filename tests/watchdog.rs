//! A daemon that no longer answers ends by itself, and the next one adopts what it had.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread};

use nexus_tests::{BreakableDaemon, Home, PATIENCE, TestBus, TestDaemon};
use tokio::process::Command;

/// Five looks in the time of systemd's watchdog, and three are what its patience is.
fn watched(command: &mut Command) {
    command.env("WATCHDOG_USEC", "3000000");
}

/// Has something hang in a daemon that has a VM. It is gone before systemd's watchdog would have had to end it, and the VM
/// is not.
async fn hangs(failpoint: &str) {
    let mut daemon = BreakableDaemon::start_with(watched).await;
    let vm = daemon.run("web", []).await;
    let before = daemon.read(&vm).await;

    daemon.set(&format!("{failpoint}=sleep(600000)\n")).await;
    assert_eq!(daemon.broken().await, Some(1), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("nexusd ends, to be started again"), "{log}");

    let daemon = daemon.next().await;
    let after = daemon.wait(&vm, |vm| vm.guest_ready).await;
    assert_eq!(after.leader, before.leader);
}

#[tokio::test]
async fn a_store_that_hangs_is_noticed() {
    hangs("actor.store").await;
}

#[tokio::test]
async fn objects_that_hang_are_noticed() {
    hangs("bus.state").await;
}

/// The store and the bus have threads of their own, and answer all the same.
#[tokio::test]
async fn actors_that_hang_are_noticed() {
    let mut daemon = BreakableDaemon::start_with(watched).await;
    let mut vms = Vec::new();
    for number in 0..thread::available_parallelism().unwrap().get() {
        vms.push(daemon.create(&format!("vm-{number}"), []).await);
    }
    daemon.set("actor.machine=pause").await;
    for vm in &vms {
        let vm = daemon.vm(vm).await;
        tokio::spawn(async move { vm.set_label("never").await });
    }
    assert_eq!(daemon.broken().await, Some(1), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("the actors do not answer for 1.8 s: nexusd ends, to be started again"), "{log}");
}

/// A bus that is gone is no daemon that hangs: its actor connects again, for as long as it takes.
#[tokio::test]
async fn a_bus_that_is_away_is_no_reason_to_end() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let mut command = TestDaemon::command(&home, &bus.address());
    command.env("WATCHDOG_USEC", "300000");
    let mut daemon = TestDaemon::start_with(home, bus, command).await;
    let vm = daemon.run("web", []).await;
    let before = daemon.read(&vm).await;
    daemon.bus.stop();
    // More looks than it would have patience for.
    for _ in 0..12 {
        assert_eq!(daemon.notifications.next(PATIENCE).await, ["WATCHDOG=1"]);
    }
    daemon.bus.start_again();
    daemon.bus.wait_for_nexus().await;
    daemon.client = daemon.bus.connect().await;
    let after = daemon.wait(&vm, |vm| vm.guest_ready).await;
    assert_eq!((after.leader, after.state_changed_at), (before.leader, before.state_changed_at));
}
