//! A daemon that no longer answers ends by itself, and the next one adopts what it had.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread, time::Duration};

use nexus_tests::{BreakableDaemon, Home, PATIENCE, TestBus, TestDaemon};
use tokio::process::Command;

/// The time of systemd's watchdog. There are five looks in it, and three are what nexusd's patience is.
const WATCHDOG: Duration = Duration::from_secs(3);

fn watched(command: &mut Command) {
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
}

/// The log says what hung, and that systemd's watchdog, which was fed at most a look before that, had time left.
fn ended_in_time(log: &str, what: &str) {
    let silence = log.split_once(&format!("{what} not answer for ")).and_then(|(_, rest)| rest.split_once(" s: "));
    let Some((silence, rest)) = silence else { panic!("{what} not answer: {log}") };
    assert!(rest.starts_with("nexusd ends, to be started again"), "{log}");
    let silence = Duration::from_secs_f64(silence.parse().unwrap());
    assert!(silence + WATCHDOG / 5 < WATCHDOG, "{silence:?}");
}

/// Has something hang in a daemon that has a VM. It is gone before systemd's watchdog would have had to end it, and the VM
/// is not.
async fn hangs(failpoint: &str, what: &str) {
    let mut daemon = BreakableDaemon::start_with(watched).await;
    let vm = daemon.run("web", []).await;
    let before = daemon.read(&vm).await;

    daemon.set(&format!("{failpoint}=sleep(600000)\n")).await;
    assert_eq!(daemon.broken().await, Some(1), "{}", daemon.log());
    ended_in_time(&daemon.log(), what);

    let daemon = daemon.next().await;
    let after = daemon.wait(&vm, |vm| vm.guest_ready).await;
    assert_eq!(after.leader, before.leader);
}

#[tokio::test]
async fn a_store_that_hangs_is_noticed() {
    hangs("actor.store", "the store does").await;
}

#[tokio::test]
async fn objects_that_hang_are_noticed() {
    hangs("bus.state", "the objects on the bus do").await;
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
    ended_in_time(&daemon.log(), "the actors do");
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
