//! What outlives nexusd, or any part of it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use nexus_dbus::{
    ROOT,
    client::{Options, objects},
};
use nexus_host::storage::DISK;
use nexus_tests::{Home, PATIENCE, Signals, TestBus, TestDaemon, daemon_command, program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::UnixListener, task::spawn_blocking, time::timeout};
use zbus::ObjectPath;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_its_streams_and_its_end_outlive_the_daemon() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let script = "while read line; do echo got $line; echo err $line >&2; done; exit 7";
    let guest = daemon.guest(&vm).await;
    let (id, input, output, errors) = guest.exec(&["sh", "-c", script], Options::new()).await.unwrap();
    let [mut input, mut output, mut errors] = [input, output, errors].map(|stream| File::from(OwnedFd::from(stream)));
    let said = spawn_blocking(move || {
        input.write_all(b"before\n").unwrap();
        let mut line = [0; 11];
        output.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"got before\n");
        (input, output)
    });
    let (mut input, mut output) = timeout(PATIENCE, said).await.unwrap().unwrap();

    let daemon = daemon.replace().await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let guest = daemon.guest(&vm).await;
    let running = guest.list_execs().await.unwrap();
    assert_eq!(running.iter().map(|(exec, _)| *exec).collect::<Vec<_>>(), [id]);
    let said = spawn_blocking(move || {
        input.write_all(b"after\n").unwrap();
        drop(input);
        let (mut out, mut err) = (String::new(), String::new());
        output.read_to_string(&mut out).unwrap();
        errors.read_to_string(&mut err).unwrap();
        (out, err)
    });
    let said = timeout(PATIENCE, said).await.unwrap().unwrap();
    assert_eq!(said, ("got after\n".to_owned(), "err before\nerr after\n".to_owned()));
    let ended = timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap();
    assert_eq!(ended, (7, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_finds_the_vms_of_the_version_before() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let folder = home.path().join("bin");
    fs::create_dir(&folder).unwrap();
    // As a package manager does it: beside the old one, and then in its place.
    let install = |from: &str, to: &str| {
        let new = folder.join(format!("{to}.new"));
        fs::copy(program(from), &new).unwrap();
        fs::rename(new, folder.join(to)).unwrap();
    };
    let start = async || {
        let log = home.path().join("nexusd.log");
        let command = daemon_command(&folder.join("nexusd"), &home, &bus.address(), &log);
        TestDaemon::start_with(home.clone(), bus.clone(), command).await
    };
    for name in ["nexusd", "nexus-shim", "guest-agent"] {
        install(name, name);
    }
    let mut daemon = start().await;
    let web = daemon.run("web", []).await;
    let executable = |daemon: &TestDaemon| fs::metadata(format!("/proc/{}/exe", daemon.pid())).unwrap().len();
    let old = executable(&daemon);

    // Another build, under what runs.
    for (from, to) in [("nexusd-failpoints", "nexusd"), ("nexus-shim", "nexus-shim"), ("guest-agent", "guest-agent")] {
        install(from, to);
    }
    let between = daemon.run("between", []).await;
    let before = [daemon.read(&web).await, daemon.read(&between).await];
    assert!(daemon.end(Signal::SIGTERM).await.success());
    let daemon = start().await;
    assert_ne!(executable(&daemon), old, "it is another build");
    for (vm, before) in [&web, &between].into_iter().zip(before) {
        let after = daemon.wait(vm, |vm| vm.guest_ready).await;
        assert_eq!((after.leader, after.state_changed_at), (before.leader, before.state_changed_at));
        assert_eq!(daemon.shell(vm, "echo on").await, (0, "on\n".to_owned()));
        let stop = daemon.vm(vm).await.stop(Options::new()).await.unwrap();
        daemon.done(&stop).await.unwrap();
        assert_eq!(daemon.read(vm).await.state, "stopped");
    }
}

/// The generation of every actor but the root, by its object.
async fn generations(daemon: &TestDaemon) -> BTreeMap<String, u64> {
    let all = objects(&daemon.client).await.unwrap();
    let rows = all.into_iter().filter_map(|(path, object)| Some((path.to_string(), object.supervised?.generation)));
    rows.filter(|(path, _)| !path.ends_with("/supervisor/root")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_actor_can_be_restarted_and_no_vm_notices() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    let image = daemon.manager().await.import_image(folder.to_str().unwrap(), "tiny", Options::new()).await.unwrap();
    daemon.done(&image).await.unwrap();
    let base = Options::from([("base", "tiny".into())]);
    let workspace = daemon.manager().await.create_workspace("disk", base).await.unwrap();
    daemon.done(&workspace).await.unwrap();
    let before = daemon.read(&vm).await;

    let actors = generations(&daemon).await;
    assert!(actors.len() >= 11, "{actors:?}");
    for path in actors.keys() {
        let earlier = daemon.actor(path).await;
        let object = ObjectPath::try_from(path.as_str()).unwrap().into();
        // With an actor of the root's goes the bus, and so the answer.
        let _ = daemon.supervised(&object).await.restart_actor(Options::new()).await;
        let now = daemon.wait_actor(path, |now| now.generation > earlier.generation && now.health == "ok").await;
        assert_eq!((now.generation, now.restart_count), (earlier.generation + 1, earlier.restart_count + 1), "{path}");
        assert_eq!((now.fault_count, now.failure_count), (0, 0), "{path}: it was asked for");
        let after = daemon.wait(&vm, |vm| vm.guest_ready).await;
        assert_eq!((after.leader, after.state_changed_at), (before.leader, before.state_changed_at), "{path}");
    }
    assert_eq!(daemon.shell(&vm, "echo on").await, (0, "on\n".to_owned()));
    assert!(daemon.home.data().join("workspaces/@disk").join(DISK).is_file());
    // The root has nobody who would start it again.
    let root = ObjectPath::try_from(format!("{ROOT}/supervisor/root")).unwrap().into();
    assert!(daemon.supervised(&root).await.restart_actor(Options::new()).await.is_err());
    assert_eq!(daemon.read(&vm).await.leader, before.leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_is_degraded_while_anything_below_is_not_well() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", [("restart-policy", "no".into())]).await;
    assert_eq!(daemon.manager().await.state().await.unwrap(), "running");
    let mut signals = Signals::of(&daemon.client).await;
    let leader = i32::try_from(daemon.read(&vm).await.leader).unwrap();
    kill(Pid::from_raw(leader), Signal::SIGKILL).unwrap();
    signals.until(|signal| signal.is(ROOT, "PropertiesChanged") && signal.has("degraded")).await;
    assert_eq!(daemon.manager().await.state().await.unwrap(), "degraded");
    let stop = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&stop).await.unwrap();
    let told = |signal: &nexus_tests::Signal| {
        let changed = signal.changed().filter(|_| signal.path == ROOT);
        changed.is_some_and(|changed| changed.properties.contains_key("State"))
    };
    let last = signals.until(told).await.pop().unwrap();
    assert!(last.has("running"), "{last:?}");
    assert_eq!(daemon.manager().await.state().await.unwrap(), "running");
}

/// Regression: each dial stayed in the vsock device until the VM went on, or the device could take no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_vm_is_not_dialled_before_it_goes_on() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    daemon.vm(&vm).await.pause().await.unwrap();
    let socket = daemon.read(&vm).await.vsock_path;
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = daemon.replace().await;
    daemon.wait(&vm, |vm| vm.state == "paused").await;
    let dialled = timeout(Duration::from_secs(1), listener.accept()).await;
    assert!(dialled.is_err(), "it is dialled");
    daemon.vm(&vm).await.resume().await.unwrap();
    timeout(PATIENCE, listener.accept()).await.expect("it is not dialled").unwrap();
}
