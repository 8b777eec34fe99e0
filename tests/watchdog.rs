//! A daemon that no longer answers ends by itself, and the next one adopts what it had.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, sync::Arc};

use nexus_tests::{Home, TestBus, TestDaemon};
use nix::sys::signal::{Signal, kill};

/// Has something hang in a daemon that has a VM. It is gone before systemd's watchdog would have had to end it, and the VM
/// is not.
async fn hangs(failpoint: &str) {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let failpoints = home.path().join("failpoints");
    fs::write(&failpoints, "").unwrap();
    let mut command = TestDaemon::breakable(&home, &bus.address(), &failpoints);
    // Three looks of a second each are what its patience is.
    command.env("WATCHDOG_USEC", "3000000");
    let mut daemon = TestDaemon::start_with(home, bus, command).await;
    let vm = daemon.run("web", []).await;
    let before = daemon.read(&vm).await;

    fs::write(&failpoints, format!("{failpoint}=sleep(600000)\n")).unwrap();
    kill(daemon.pid(), Signal::SIGUSR1).unwrap();
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("nexusd ends, to be started again"), "{log}");

    let daemon = TestDaemon::start_in(daemon.home.clone(), daemon.bus.clone()).await;
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
