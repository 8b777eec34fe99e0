//! Commands in guests, as their clients on the bus have them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    fs::{self, File},
    io::Read,
};

use nexus_dbus::client::{GuestProxy, Options};
use nexus_model::ErrorKind;
use nexus_tests::{PATIENCE, TestDaemon, daemonises, has_died, pid_in};
use tokio::time::timeout;

/// Regression: the command went on, for an answer that nobody waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_its_caller() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let note = daemon.home.path().join("note");
    let script = format!("{}; exec sleep 1000", daemonises(&note));
    let caller = daemon.bus.connect().await;
    let guest = GuestProxy::builder(&caller).path(vm.clone()).build().await.unwrap();
    let calling = tokio::spawn(async move {
        let options = Options::from([("timeout-usec", 3_600_000_000_u64.into())]);
        guest.run(&["sh", "-c", &script], options).await.map(|_| ())
    });
    let left = pid_in(&note).await;
    // Others who come and go are no matter.
    drop(daemon.bus.connect().await);
    assert_eq!(daemon.shell(&vm, "echo here").await, (0, "here\n".to_owned()));
    assert!(fs::exists(format!("/proc/{left}")).unwrap());
    calling.abort();
    caller.close().await.unwrap();
    has_died(left).await;
    // The daemon, its guest and other callers don't mind.
    assert_eq!(daemon.shell(&vm, "echo here").await, (0, "here\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_had_written_when_its_time_was_up_is_told() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let options = || Options::from([("timeout-usec", 2_000_000_u64.into())]);
    let script = "echo 123456789; echo first >&2; echo last words >&2; exec sleep 1000";
    let error = daemon.guest(&vm).await.run(&["sh", "-c", script], options()).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Timeout));
    let text = error.to_string();
    assert!(text.contains("10 bytes of output and 17 of errors") && text.ends_with(" last words"), "{text}");
}

/// Regression: the bus hung up on nexusd for a NUL in a string, and all clients lost it.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_command_writes_can_be_answered() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let script = "printf 'a\\0b\\377c'; head -c 300000 /dev/zero >&2";
    let (code, out, err, truncated) = daemon.guest(&vm).await.run(&["sh", "-c", script], Options::new()).await.unwrap();
    assert_eq!((code, out.as_str(), truncated), (0, "a\u{fffd}b\u{fffd}c", true));
    assert_eq!(err.chars().filter(|character| *character == '\u{fffd}').count(), err.chars().count());
    assert_eq!(daemon.shell(&vm, "echo here").await, (0, "here\n".to_owned()));
}

/// Also where nexusd does not know whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_streams() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let note = daemon.home.path().join("note");
    let script = format!("{}; exec sleep 1000", daemonises(&note));
    let (id, input, output, errors) =
        daemon.guest(&vm).await.exec(&["sh", "-c", &script], Options::new()).await.unwrap();
    let left = pid_in(&note).await;
    let daemon = daemon.replace().await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let guest = daemon.guest(&vm).await;
    assert_eq!(guest.list_execs().await.unwrap().len(), 1);
    drop((input, output, errors));
    has_died(left).await;
    assert_eq!(timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (128 + 9, 9));
}

/// Whoever has the streams by then, and whatever is in them.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_caller() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let note = daemon.home.path().join("note");
    let script = format!("{}; exec yes", daemonises(&note));
    let caller = daemon.bus.connect().await;
    let guest = GuestProxy::builder(&caller).path(vm.clone()).build().await.unwrap();
    let (id, _input, _output, _errors) = guest.exec(&["sh", "-c", &script], Options::new()).await.unwrap();
    let left = pid_in(&note).await;
    // Others who come and go are no matter.
    drop(daemon.bus.connect().await);
    assert_eq!(daemon.shell(&vm, "echo here").await, (0, "here\n".to_owned()));
    assert!(fs::exists(format!("/proc/{left}")).unwrap());
    drop(guest);
    caller.close().await.unwrap();
    has_died(left).await;
    let guest = daemon.guest(&vm).await;
    assert_eq!(timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (128 + 9, 9));
}

/// As that of a guest that stands still, which can't be told before it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_a_paused_vm_ends_with_its_caller_too() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let caller = daemon.bus.connect().await;
    let guest = GuestProxy::builder(&caller).path(vm.clone()).build().await.unwrap();
    let (id, _input, _output, _errors) = guest.exec(&["sleep", "1000"], Options::new()).await.unwrap();
    daemon.vm(&vm).await.pause().await.unwrap();
    drop(guest);
    caller.close().await.unwrap();
    daemon.wait(&vm, |vm| vm.state == "paused").await;
    daemon.vm(&vm).await.resume().await.unwrap();
    let guest = daemon.guest(&vm).await;
    assert_eq!(timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (128 + 9, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_command_needs_no_caller() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let note = daemon.home.path().join("note");
    let caller = daemon.bus.connect().await;
    let guest = GuestProxy::builder(&caller).path(vm.clone()).build().await.unwrap();
    let script = format!("cat; head -c 1000000 /dev/zero; echo $$ >{}; exec sleep 1000", note.display());
    let options = Options::from([("detach", true.into())]);
    let (id, _, output, _) = guest.exec(&["sh", "-c", &script], options).await.unwrap();
    let mut said = Vec::new();
    File::from(std::os::fd::OwnedFd::from(output)).read_to_end(&mut said).unwrap();
    assert_eq!(said, b"", "what it writes is dropped");
    drop(guest);
    caller.close().await.unwrap();
    pid_in(&note).await;
    let guest = daemon.guest(&vm).await;
    assert_eq!(guest.list_execs().await.unwrap().len(), 1);
    guest.signal_exec(id, 15).await.unwrap();
    assert_eq!(timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (128 + 15, 15));
}
