//! nexusd's life: up, down, killed, without its bus, and what its VMs notice of that.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{fs, path::Path, sync::Arc, thread, time::SystemTime};

use nexus_dbus::client::{JobProperties, Options, Row};
use nexus_model::{ErrorKind, JobState, Timestamp};
use nexus_store::Store;
use nexus_tests::{BreakableDaemon, Home, PATIENCE, TestBus, TestDaemon};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn strike(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[tokio::test]
async fn it_tells_its_manager_how_it_is() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let mut command = TestDaemon::command(&home, &bus.address());
    command.env("WATCHDOG_USEC", "300000");
    let mut daemon = TestDaemon::start_with(home, bus, command).await;
    assert_eq!(daemon.ready, ["READY=1", "STATUS=running"]);
    // The name is there before that is said.
    assert!(daemon.bus.has_nexus().await);
    assert_eq!(daemon.manager().await.state().await.unwrap(), "running");
    for _ in 0..3 {
        assert_eq!(daemon.notifications.next(PATIENCE).await, ["WATCHDOG=1"]);
    }
    let status = daemon.end(Signal::SIGTERM).await;
    assert!(status.success(), "{status:?}");
    let mut last = daemon.notifications.next(PATIENCE).await;
    while last == ["WATCHDOG=1"] {
        last = daemon.notifications.next(PATIENCE).await;
    }
    assert_eq!(last, ["STOPPING=1"]);
    assert!(!daemon.bus.has_nexus().await);
}

#[tokio::test]
async fn what_it_writes_is_for_its_user_alone() {
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    let path = daemon.home.path();
    for folder in ["state/nexus", "data/nexus", "run/nexus", "run/nexus/vm"] {
        assert_eq!(mode(&path.join(folder)), 0o700, "{folder}");
    }
    assert_eq!(mode(&daemon.home.database()), 0o600);
}

#[tokio::test]
async fn vms_run_on_when_it_is_told_to_end_and_the_next_one_adopts_them() {
    let mut daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let before = daemon.read(&vm).await;
        let status = daemon.end(signal).await;
        assert!(status.success(), "{signal}: {status:?}");
        assert!(is_alive(before.leader), "{signal}");
        daemon = TestDaemon::start_in(daemon.home.clone(), daemon.bus.clone()).await;
        let after = daemon.wait(&vm, |vm| vm.guest_ready).await;
        assert_eq!((after.leader, &after.id, after.started_at), (before.leader, &before.id, before.started_at));
        assert_eq!(after.state_changed_at, before.state_changed_at, "adoption is no transition");
        assert_eq!(daemon.shell(&vm, "echo still here").await, (0, "still here\n".to_owned()));
    }
}

#[tokio::test]
async fn a_killed_daemon_leaves_its_vms_and_the_record_of_what_it_was_at() {
    let daemon = TestDaemon::start().await;
    let (web, deaf) = (daemon.run("web", []).await, daemon.run("deaf", []).await);
    let (before, stopped) = (daemon.read(&web).await, daemon.read(&deaf).await);
    assert_eq!(daemon.shell(&web, "echo kept > kept").await.0, 0);
    // It can't hear that it is to stop, so the job is still under way when the daemon dies.
    strike(stopped.leader, Signal::SIGSTOP);
    let timeout = Options::from([("timeout-usec", 3_600_000_000_u64.into())]);
    let job = daemon.vm(&deaf).await.stop(timeout).await.unwrap();
    daemon.wait(&deaf, |vm| vm.state == "stopping").await;
    let job = JobProperties::read(&daemon.client, &job).await.unwrap();
    assert_eq!(job.state, "running");

    let daemon = daemon.replace().await;
    let after = daemon.wait(&web, |vm| vm.guest_ready).await;
    assert_eq!((after.leader, after.state.as_str()), (before.leader, "running"));
    assert_eq!(daemon.shell(&web, "cat kept").await, (0, "kept\n".to_owned()));
    // What was asked for is still wanted: the new daemon goes on with it, as its own doing, and lets the guest hear it.
    daemon.wait(&deaf, |vm| vm.state == "stopped").await;
    assert!(!is_alive(stopped.leader));

    // That the job was cut off is told to whoever asks what happened.
    let events = daemon.nexusctl(&["events", "--vm", "deaf"]).output().await.unwrap();
    let told = String::from_utf8(events.stdout).unwrap();
    let line = told.lines().find(|line| line.contains(&format!("job/{} ", job.id))).unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains("cancelled") && line.contains("nexusd ended while the job was under way"), "{line}");

    let mut daemon = daemon;
    assert!(daemon.end(Signal::SIGTERM).await.success());
    let store = Store::open(&daemon.home.database()).unwrap();
    let cut_off = store.job(job.id).unwrap();
    assert_eq!(cut_off.state, JobState::Cancelled);
    let error = cut_off.error.unwrap();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert!(error.message.contains("nexusd ended"), "{error:?}");
    assert!(cut_off.finished_at >= cut_off.created_at);
}

#[tokio::test]
async fn what_ends_while_it_is_away_is_known_when_it_is_back() {
    let mut daemon = TestDaemon::start().await;
    let vm = daemon.run("web", [("restart-policy", "no".into())]).await;
    let before = daemon.read(&vm).await;
    daemon.end(Signal::SIGKILL).await;
    let away = Timestamp::from(SystemTime::now());
    strike(before.leader, Signal::SIGABRT);
    // Its shim holds how it ended, for as long as nobody has asked.
    while is_alive(before.leader) {
        tokio::task::yield_now().await;
    }
    let back = Timestamp::from(SystemTime::now());
    let daemon = TestDaemon::start_in(daemon.home.clone(), daemon.bus.clone()).await;
    let after = daemon.wait(&vm, |vm| vm.state == "crashed").await;
    assert_eq!((after.exit_code, after.leader), (128 + 6, 0));
    let ended = after.stopped_at;
    assert!((away.0..=back.0 + 1_000_000).contains(&ended), "it ended at {ended}, not from {away:?} to {back:?}");
    // Nobody was there to hear it, but it is in the history.
    let history = daemon.vm(&vm).await.get_history(1).await.unwrap();
    assert_eq!(history[0].1, "crashed");
}

#[tokio::test]
async fn vms_that_start_with_it_do_unless_their_owner_stopped_them() {
    let mut daemon = TestDaemon::start().await;
    let wanted = daemon.create("wanted", [("autostart", true.into())]).await;
    let unwanted = daemon.run("unwanted", [("autostart", true.into())]).await;
    let job = daemon.vm(&unwanted).await.stop(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    assert!(daemon.end(Signal::SIGTERM).await.success());
    let daemon = TestDaemon::start_in(daemon.home.clone(), daemon.bus.clone()).await;
    daemon.wait(&wanted, |vm| vm.guest_ready).await;
    assert_eq!(daemon.read(&unwanted).await.state, "stopped");
}

#[tokio::test]
async fn the_bus_may_die_and_come_back() {
    let mut daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let (before, shown) = (daemon.read(&vm).await, daemon.shown().await);
    daemon.bus.stop();
    assert!(is_alive(before.leader));
    daemon.bus.start_again();
    daemon.bus.wait_for_nexus().await;
    daemon.client = daemon.bus.connect().await;
    assert_eq!(daemon.shown().await, shown);
    let after = daemon.wait(&vm, |vm| vm.guest_ready).await;
    assert_eq!((after.leader, after.state_changed_at), (before.leader, before.state_changed_at));
    assert_eq!(daemon.shell(&vm, "echo on").await, (0, "on\n".to_owned()));
    // It is no new daemon, and it still ends in order.
    assert_eq!(daemon.manager().await.state().await.unwrap(), "running");
    assert!(daemon.end(Signal::SIGTERM).await.success());
}

#[tokio::test]
async fn a_vm_that_dies_while_there_is_no_bus_is_shown_as_it_is() {
    let mut daemon = TestDaemon::start().await;
    let vm = daemon.run("web", [("restart-policy", "no".into())]).await;
    let before = daemon.read(&vm).await;
    daemon.bus.stop();
    strike(before.leader, Signal::SIGKILL);
    daemon.bus.start_again();
    daemon.bus.wait_for_nexus().await;
    daemon.client = daemon.bus.connect().await;
    let after = daemon.wait(&vm, |vm| vm.state == "crashed").await;
    assert_eq!((after.exit_code, after.leader, after.guest_ready), (128 + 9, 0, false));
}

#[tokio::test]
async fn its_log_level_is_changed_while_it_runs() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let mut command = TestDaemon::command(&home, &bus.address());
    command.env("NEXUS_LOG", "info");
    let daemon = TestDaemon::start_with(home, bus, command).await;
    let control = zbus::Proxy::new(
        &daemon.client,
        nexus_dbus::SERVICE,
        "/org/freedesktop/LogControl1",
        "org.freedesktop.LogControl1",
    );
    let control = control.await.unwrap();
    assert_eq!(control.get_property::<String>("LogLevel").await.unwrap(), "info");
    assert_eq!(control.get_property::<String>("SyslogIdentifier").await.unwrap(), "nexusd");
    // What is refused is written down for those who look closely, before it is answered.
    let provoke = async || daemon.manager().await.start_vm("nobody", Options::new()).await.unwrap_err();
    let told = || daemon.log().matches("a call failed").count();
    provoke().await;
    assert_eq!(told(), 0);
    control.set_property("LogLevel", "debug").await.unwrap();
    provoke().await;
    assert_eq!(told(), 1);
    control.set_property("LogLevel", "warning").await.unwrap();
    provoke().await;
    assert_eq!(told(), 1);
    assert!(control.set_property("LogLevel", "loud").await.is_err());
}

/// Actors that kept their threads used to hold up every call, once there were as many of them as processors: in a storm of
/// deaths a property took half a second.
#[tokio::test]
async fn a_property_is_read_while_actors_have_every_thread_of_theirs() {
    let nexus = BreakableDaemon::start().await;
    let mut vms = Vec::new();
    for number in 0..thread::available_parallelism().unwrap().get() {
        vms.push(nexus.create(&format!("vm-{number}"), []).await);
    }
    nexus.set("actor.machine=pause").await;
    let mut labels = Vec::new();
    for vm in &vms {
        let vm = nexus.vm(vm).await;
        labels.push(tokio::spawn(async move { vm.set_label("asked for").await }));
    }
    // More than enough of them for the actors to have come to where they stay.
    for _ in 0..500 {
        let read = tokio::time::timeout(PATIENCE, nexus.read(&vms[0])).await.expect("an answer");
        assert_eq!(read.label, "");
    }
    nexus.set("").await;
    for label in labels {
        label.await.unwrap().unwrap();
    }
    assert_eq!(nexus.read(&vms[0]).await.label, "asked for");
}
