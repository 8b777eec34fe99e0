//! Streams that clients have been given, as connections on the bus.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    time::Duration,
};

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, GuestProxy, Options},
};
use nexus_model::ErrorKind;
use nexus_tests::{PATIENCE, TestDaemon};
use nix::sys::signal::Signal;
use zbus::Connection;

async fn connection(daemon: &TestDaemon, number: u32) -> ConnectionProxy<'static> {
    let path = format!("{ROOT}/vm/web/connection/{number}");
    let builder = ConnectionProxy::builder(&daemon.client).path(path);
    builder.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
}

/// The numbers of the streams that are on the bus: those after the five connections that are kept.
async fn shown(daemon: &TestDaemon) -> Vec<u32> {
    let shown = daemon.shown().await;
    let mut numbers: Vec<u32> = shown
        .iter()
        .filter_map(|row| row.split_once("vm/web/connection/")?.1.split_once(':')?.0.parse().ok())
        .collect();
    numbers.retain(|number| *number > 5);
    numbers.sort_unstable();
    numbers
}

async fn until_shown(daemon: &TestDaemon, expected: &[u32]) {
    let there = async {
        while shown(daemon).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let there = tokio::time::timeout(PATIENCE, there).await;
    assert!(there.is_ok(), "there are {:?}, not {expected:?}", shown(daemon).await);
}

async fn owned_guest(bus: &Connection, vm: &zbus::OwnedObjectPath) -> GuestProxy<'static> {
    GuestProxy::builder(bus).path(vm.clone()).build().await.unwrap()
}

async fn read_some(mut stream: File, bytes: usize) -> File {
    let read = move || stream.read_exact(&mut vec![0; bytes]).map(|()| stream);
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(read)).await.unwrap().unwrap().unwrap()
}

async fn is_at_its_end(mut stream: File) {
    let read = move || stream.read_to_end(&mut Vec::new());
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(read)).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_an_object_with_its_owner_until_it_ends() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let caller = daemon.bus.connect().await;
    let name = caller.unique_name().unwrap().to_string();
    let guest = owned_guest(&caller, &vm).await;
    let tools = guest.open_tools(Options::new()).await.unwrap();
    let (_, terminal) = guest.open_shell(&["cat"], Options::new()).await.unwrap();
    let copy = guest.copy_in("/copied", Options::new()).await.unwrap();
    until_shown(&daemon, &[6, 7, 8]).await;
    for (number, kind, port) in [(6, "tools", 200), (7, "terminal", 300), (8, "bulk", 102)] {
        let stream = connection(&daemon, number).await;
        assert_eq!(stream.kind().await.unwrap(), kind);
        assert_eq!(stream.port().await.unwrap(), port);
        assert_eq!(stream.owner().await.unwrap(), name);
        assert_eq!(stream.state().await.unwrap(), "open");
        assert!(stream.opened_at().await.unwrap() > 0);
        let actor = daemon.actor(&format!("{ROOT}/vm/web/connection/{number}")).await;
        assert_eq!((actor.health.as_str(), actor.fault_count), ("ok", 0));
    }
    let vm_now = daemon.wait(&vm, |vm| vm.connections.len() == 8).await;
    assert!(vm_now.connections.iter().any(|path| path.as_str().ends_with("connection/8")));

    // What goes over it is counted where it ends.
    let before = connection(&daemon, 7).await.get_statistics().await.unwrap();
    let terminal = File::from(OwnedFd::from(terminal));
    let mut typed = terminal.try_clone().unwrap();
    typed.write_all(b"0123456789\n").unwrap();
    let terminal = read_some(terminal, 11).await;
    let after = connection(&daemon, 7).await.get_statistics().await.unwrap();
    assert_eq!(after["bytes-out"] - before["bytes-out"], 11, "{before:?} {after:?}");
    assert!(after["bytes-in"] >= before["bytes-in"] + 11 && !after.contains_key("frames-in"), "{before:?} {after:?}");

    // The client's end, and two that are closed for it.
    drop((tools, typed));
    until_shown(&daemon, &[7, 8]).await;
    for number in [7, 8] {
        connection(&daemon, number).await.close().await.unwrap();
    }
    is_at_its_end(terminal).await;
    is_at_its_end(File::from(OwnedFd::from(copy))).await;
    until_shown(&daemon, &[]).await;
    daemon.wait(&vm, |vm| vm.connections.len() == 5).await;
    let gone = connection(&daemon, 7).await.close().await.unwrap_err();
    assert_ne!(gone.kind(), Some(ErrorKind::Internal), "{gone}");

    // No number comes back; and with its VM a stream is gone.
    let _tools = guest.open_tools(Options::new()).await.unwrap();
    until_shown(&daemon, &[9]).await;
    let stop = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&stop).await.unwrap();
    until_shown(&daemon, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_there_again_after_the_daemon_and_after_the_connection() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let caller = daemon.bus.connect().await;
    let name = caller.unique_name().unwrap().to_string();
    let options = Options::from([("name", "main".into())]);
    let (_, terminal) = owned_guest(&caller, &vm).await.open_shell(&["cat"], options).await.unwrap();
    until_shown(&daemon, &[6]).await;
    let opened_at = connection(&daemon, 6).await.opened_at().await.unwrap();
    connection(&daemon, 1).await.close().await.unwrap();
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    until_shown(&daemon, &[6]).await;
    assert_eq!(connection(&daemon, 6).await.opened_at().await.unwrap(), opened_at, "it is the same");

    let daemon = daemon.replace().await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    until_shown(&daemon, &[6]).await;
    let adopted = connection(&daemon, 6).await;
    assert_eq!(adopted.kind().await.unwrap(), "terminal");
    assert_eq!(adopted.owner().await.unwrap(), name);
    assert!(adopted.opened_at().await.unwrap().abs_diff(opened_at) < 60_000_000);
    adopted.close().await.unwrap();
    is_at_its_end(File::from(OwnedFd::from(terminal))).await;
    until_shown(&daemon, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_end_when_their_owner_leaves_the_bus() {
    let mut daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let caller = daemon.bus.connect().await;
    let guest = owned_guest(&caller, &vm).await;
    let options = || Options::from([("name", "main".into())]);
    let tools = guest.open_tools(Options::new()).await.unwrap();
    let (exec, terminal) = guest.open_shell(&["cat"], options()).await.unwrap();
    until_shown(&daemon, &[6, 7]).await;

    // Whoever has the descriptors: only that name answers for them.
    caller.close().await.unwrap();
    is_at_its_end(File::from(OwnedFd::from(tools))).await;
    is_at_its_end(File::from(OwnedFd::from(terminal))).await;
    until_shown(&daemon, &[]).await;

    // The terminal has a name and goes on. Who leaves while there is no nexusd has left all the same.
    let caller = daemon.bus.connect().await;
    let (again, terminal) = owned_guest(&caller, &vm).await.open_shell(&[], options()).await.unwrap();
    assert_eq!(again, exec);
    until_shown(&daemon, &[8]).await;
    let (home, bus) = (daemon.home.clone(), daemon.bus.clone());
    daemon.end(Signal::SIGKILL).await;
    caller.close().await.unwrap();
    let daemon = TestDaemon::start_in(home, bus).await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    is_at_its_end(File::from(OwnedFd::from(terminal))).await;
    until_shown(&daemon, &[]).await;
    let shells = daemon.guest(&vm).await.list_shells().await.unwrap();
    assert_eq!(shells.len(), 1, "{shells:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn they_outlive_the_bus_until_that_is_back_without_their_owner() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let caller = daemon.bus.connect().await;
    let (_, terminal) = owned_guest(&caller, &vm).await.open_shell(&["cat"], Options::new()).await.unwrap();
    until_shown(&daemon, &[6]).await;
    daemon.logged(&format!("listens for the departure of {}", caller.unique_name().unwrap()), 1).await;
    daemon.bus.stop();
    daemon.logged("the session bus is gone", 1).await;
    let mut terminal = File::from(OwnedFd::from(terminal));
    // For longer than it takes until something is tried again.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        terminal.write_all(b"on\n").unwrap();
        // As it is echoed, and as cat writes it.
        terminal = read_some(terminal, 8).await;
    }
    daemon.bus.start_again();
    is_at_its_end(terminal).await;
}
