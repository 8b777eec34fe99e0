//! The engine with real VMs: QEMU, a real kernel, the agent as process 1.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{Read, Write},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nexus_actors::{
    Filter, GuestCommand, GuestShell, GuestStreams, RemoveOptions, StopOptions,
    snapshot::{Change, Changes, Update, VmSnapshot},
};
use nexus_model::{
    ConnectionState, ErrorKind, EventKind, ExitStatus, Health, JobState, Name, Timestamp, WorkspaceState,
    restart::RestartPolicy,
    vm::{Reason, VmSpec, VmState, VmmChoice},
};
use nexus_protocol::Features;
use nexus_tests::TestEngine;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::task::spawn_blocking;

/// Ten times what any step here took on two busy cores.
const PATIENCE: Duration = Duration::from_secs(240);

fn command(words: &[&str]) -> GuestCommand {
    GuestCommand {
        argv: words.iter().map(ToString::to_string).collect(),
        env: Default::default(),
        working_directory: None,
        user: None,
        timeout: None,
    }
}

/// A VM with a disk of its own from the image `guest`.
async fn create(test: &TestEngine, change: impl FnOnce(&mut VmSpec)) -> Name {
    let from_image = |spec: &mut VmSpec| {
        spec.vmm = VmmChoice::Qemu;
        spec.image = Some("guest".parse().unwrap());
        change(spec);
    };
    test.create("web", from_image).await.unwrap()
}

async fn run(test: &TestEngine, vm: &Name, words: &[&str]) -> String {
    let outcome = test.engine.guest_run(&TestEngine::origin(), vm, command(words)).await.unwrap();
    assert!(outcome.status.is_success(), "{words:?}: {outcome:?}");
    String::from_utf8(outcome.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_vm_lives_crashes_comes_back_and_goes() {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest().await else { return };
    let name = create(&test, |_| ()).await;
    let vm = test.start_vm(&name).await;
    assert!(vm.isolated);
    assert_eq!(run(&test, &name, &["uname", "-n"]).await, "web\n");
    run(&test, &name, &["sh", "-c", "echo kept > /kept && sync"]).await;

    // The disk is the same one after a crash.
    kill(Pid::from_raw(i32::try_from(vm.leader).unwrap()), Signal::SIGKILL).unwrap();
    let crashed = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Crashed).await;
    assert_eq!(crashed.exit, Some(ExitStatus::Signal(9)));
    let back = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_ne!(back.leader, vm.leader);
    assert_eq!(run(&test, &name, &["cat", "/kept"]).await, "kept\n");

    // Another daemon finds the same process.
    let test = test.restart().await;
    let adopted = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(adopted.leader, back.leader);
    // It names no kernel, and runs with one.
    assert_eq!(adopted.kernel, Some("kernel-test".parse().unwrap()));
    let mut kernel = test.engine.board().assets().watch(&"kernel-test".parse().unwrap()).unwrap();
    let used = kernel.wait_for(|kernel| kernel.used_by.contains(&name));
    tokio::time::timeout(Duration::from_secs(60), used).await.unwrap().unwrap();
    assert_eq!(run(&test, &name, &["cat", "/kept"]).await, "kept\n");

    test.engine.pause_vm(&TestEngine::origin(), &name).await.unwrap();
    assert_eq!(test.state(&name), VmState::Paused);
    test.engine.resume_vm(&TestEngine::origin(), &name).await.unwrap();
    assert_eq!(run(&test, &name, &["cat", "/kept"]).await, "kept\n");

    let job = test.engine.stop_vm(&TestEngine::origin(), &name, StopOptions { timeout: None }).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let stopped = test.vm(&name);
    assert_eq!((stopped.lifecycle.state(), stopped.lifecycle.reason()), (VmState::Stopped, Reason::Requested));
    assert_eq!(stopped.exit, Some(ExitStatus::Code(0)), "the guest was not asked: {stopped:?}");

    let options = RemoveOptions { force: false, remove_workspaces: true };
    let job = test.engine.remove_vm(&TestEngine::origin(), &name, options).await.unwrap();
    let job = test.job(job).await;
    assert_eq!(job.state, JobState::Done, "{:?}", job.error);
    assert!(test.engine.board().workspaces().all().is_empty());
    let left = nexus_tests::entries(&test.folder.path().join("workspaces"));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guest_does_to_itself_is_told_apart() {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest().await else { return };
    let name = create(&test, |spec| spec.restart_policy = RestartPolicy::OnFailure).await;
    let first = test.start_vm(&name).await;
    assert_eq!(test.engine.board().workspaces().get(&name).unwrap().state, WorkspaceState::Attached);

    let _ = test.engine.guest_run(&TestEngine::origin(), &name, command(&["reboot"])).await;
    let again = test.wait(&name, |vm| vm.leader != first.leader && vm.guest.is_some()).await;
    assert_eq!(again.lifecycle.state(), VmState::Running);
    let history = test.engine.vm_history(&name, 0).await.unwrap();
    assert!(history.iter().any(|line| line.reason == Reason::GuestReboot), "{history:#?}");
    assert!(history.iter().all(|line| line.to != VmState::Crashed), "{history:#?}");

    let _ = test.engine.guest_run(&TestEngine::origin(), &name, command(&["poweroff"])).await;
    let off = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Stopped).await;
    assert_eq!(off.lifecycle.reason(), Reason::GuestPoweroff);
    let status = test.engine.board().actors().get(&"root/vms/web/machine".to_owned()).unwrap();
    assert_eq!(status.failure_count, 0, "{status:?}");
}

/// Seconds by which the guest's clock is not that of this machine, as a command finds it that is run at once.
async fn seconds_off(test: &TestEngine, vm: &Name) -> u64 {
    let there: u64 = run(test, vm, &["date", "+%s"]).await.trim().parse().unwrap();
    there.abs_diff(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// How long this machine says to have slept, in seconds.
static SLEPT: AtomicU64 = AtomicU64::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_how_late_it_is() {
    let test = TestEngine::start_with(|settings| {
        settings.slept = || Duration::from_secs(SLEPT.load(Ordering::Relaxed));
    })
    .await;
    let Some(_turn) = test.import_guest().await else { return };
    let name = create(&test, |_| ()).await;
    let started = test.start_vm(&name).await;
    assert!(started.guest.as_ref().unwrap().features.contains(&Features::CLOCK.to_owned()));
    assert!(seconds_off(&test, &name).await < 2);

    test.engine.pause_vm(&TestEngine::origin(), &name).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    test.engine.resume_vm(&TestEngine::origin(), &name).await.unwrap();
    assert!(seconds_off(&test, &name).await < 2, "after a pause");

    // It was left alone for long.
    let wrong = ["date", "-s", "@1000000000"];
    run(&test, &name, &wrong).await;
    let test = test.restart().await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
    assert!(seconds_off(&test, &name).await < 2, "after an adoption");

    // Nobody can say when this machine wakes up.
    run(&test, &name, &wrong).await;
    SLEPT.store(3600, Ordering::Relaxed);
    let told = async { while seconds_off(&test, &name).await > 1 {} };
    tokio::time::timeout(PATIENCE, told).await.expect("the guest is told that the machine has slept");
}

/// Waits until the guest has answered again, and says whether nobody could believe meanwhile that it was there.
async fn answered_again(changes: &mut Changes, before: Timestamp) -> bool {
    let mut was_away = false;
    let again = async {
        while let Some(change) = changes.recv().await {
            let Change::Vm(Update::Changed(_, vm)) = change else { continue };
            match &vm.guest {
                None => was_away = true,
                Some(guest) if guest.connected_at > before => return,
                Some(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the agent is back");
    was_away
}

/// How often the guest's kernel was given entropy, and how often its generator has begun anew since that is watched.
async fn reseeded(test: &TestEngine, vm: &Name) -> (usize, usize) {
    let trace = run(test, vm, &["cat", "/sys/kernel/tracing/trace"]).await;
    // The numbers of `RNDADDENTROPY` and `RNDRESEEDCRNG` in `linux/random.h`.
    (trace.matches("request=0x40085203").count(), trace.matches("request=0x5207").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_random_pool_of_a_guest_is_new_after_a_pause_an_adoption_and_a_sleep() {
    static SLEPT: AtomicU64 = AtomicU64::new(0);
    let test = TestEngine::start_with(|settings| {
        settings.slept = || Duration::from_secs(SLEPT.load(Ordering::Relaxed));
    })
    .await;
    let Some(_turn) = test.import_guest().await else { return };
    let name = create(&test, |_| ()).await;
    test.start_vm(&name).await;
    // The kernel itself tells what its random device is asked for.
    let watch = "mount -t tracefs tracefs /sys/kernel/tracing && cd /sys/kernel/tracing && \
                 echo 'p:nexus/random random_ioctl request=$arg2:x32' >kprobe_events && \
                 echo 1 >events/nexus/random/enable";
    run(&test, &name, &["sh", "-c", watch]).await;
    let first = reseeded(&test, &name).await;
    let since = async |test: &TestEngine, before: (usize, usize)| {
        let now = reseeded(test, &name).await;
        now.0 > before.0 && now.1 > before.1
    };

    test.engine.pause_vm(&TestEngine::origin(), &name).await.unwrap();
    test.engine.resume_vm(&TestEngine::origin(), &name).await.unwrap();
    assert!(since(&test, first).await, "after a pause");

    let second = reseeded(&test, &name).await;
    let test = test.restart().await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
    assert!(since(&test, second).await, "after an adoption");

    let third = reseeded(&test, &name).await;
    SLEPT.store(3600, Ordering::Relaxed);
    let told = async { while !since(&test, third).await {} };
    tokio::time::timeout(PATIENCE, told).await.expect("the pool is new after the machine has slept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_agent_does_what_it_can_and_is_replaced_while_the_vm_runs() {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest_under_busybox().await else { return };
    let name = create(&test, |_| ()).await;
    let newer = test.start_vm(&name).await;
    let origin = TestEngine::origin();
    let exec = async || {
        let streams = test.engine.guest_exec(&origin, &name, command(&["echo", "streamed"])).await.unwrap();
        let mut output = String::new();
        File::from(streams.stdout).read_to_string(&mut output).unwrap();
        (output, test.engine.guest_wait_exec(&name, streams.exec).await.unwrap())
    };
    // Init starts this in the place of the one that runs.
    let replace = async |script: &str| {
        let connected_at = test.vm(&name).guest.as_ref().unwrap().connected_at;
        let mut changes = test.engine.board().follow();
        test.engine.guest_run(&origin, &name, command(&["sh", "-c", script])).await.unwrap_err();
        answered_again(&mut changes, connected_at).await;
        test.vm(&name)
    };
    let words: String = Features::OF_AGENTS.iter().map(|word| format!(" --without {word}")).collect();
    let older = format!(
        "cd /sbin && mv guest-agent newer-agent && echo '#!/bin/sh' >guest-agent && \
         echo 'exec /sbin/newer-agent{words}' >>guest-agent && chmod 755 guest-agent && kill -9 $(pidof guest-agent)"
    );
    let older = replace(&older).await;
    assert_eq!(older.leader, newer.leader, "it is the same VM");
    assert!(older.guest.as_ref().unwrap().features.is_empty() && !newer.guest.as_ref().unwrap().features.is_empty());

    // What every agent of the revision has goes on.
    assert_eq!(run(&test, &name, &["echo", "on"]).await, "on\n");
    assert_eq!(exec().await, ("streamed\n".to_owned(), ExitStatus::Code(0)));
    test.engine.pause_vm(&origin, &name).await.unwrap();
    test.engine.resume_vm(&origin, &name).await.unwrap();
    assert_eq!(run(&test, &name, &["echo", "on"]).await, "on\n");
    // What it lacks it says, and so does whoever is asked for it.
    let shell = GuestShell { command: command(&[]), name: None, size: None, read_only: false };
    let lacking = [
        test.engine.guest_open_shell(&origin, &name, shell).await.unwrap_err(),
        test.engine.guest_open_tools(&origin, &name).await.unwrap_err(),
        test.engine.guest_delete_file(&origin, &name, "/etc/hostname", false).await.unwrap_err(),
    ];
    for error in lacking {
        assert_eq!(error.kind(), ErrorKind::NotImplemented, "{}", error.text());
        assert!(error.text().contains("build the image again with a newer one"), "{}", error.text());
    }
    let spares = |number| test.engine.board().connections().get(&(name.clone(), number)).unwrap().state;
    assert!((2..=5).all(|number| spares(number) == ConnectionState::Parked));

    let again = replace("cd /sbin && mv newer-agent guest-agent && kill -9 $(pidof newer-agent)").await;
    assert_eq!(again.leader, newer.leader);
    assert_eq!(again.guest.as_ref().unwrap().features, newer.guest.as_ref().unwrap().features);
    test.engine.guest_open_tools(&origin, &name).await.unwrap();
    for number in 2..=5 {
        let mut spare = test.engine.board().connections().watch(&(name.clone(), number)).unwrap();
        let open = spare.wait_for(|spare| spare.state == ConnectionState::Open);
        tokio::time::timeout(PATIENCE, open).await.expect("it is there before anybody wants it").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_or_stands_still_comes_back_by_itself() {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest_under_busybox().await else { return };
    let name = create(&test, |_| ()).await;
    let started = test.start_vm(&name).await;
    let connected_at = |vm: &VmSnapshot| vm.guest.as_ref().unwrap().connected_at;

    // The guest's init starts another one.
    let mut changes = test.engine.board().follow();
    let kill = command(&["sh", "-c", "kill -9 $(pidof guest-agent)"]);
    test.engine.guest_run(&TestEngine::origin(), &name, kill).await.unwrap_err();
    assert!(answered_again(&mut changes, connected_at(&started)).await, "GuestReady was never false");
    let again = test.vm(&name);
    assert_eq!((again.leader, again.lifecycle.state()), (started.leader, VmState::Running));
    assert_eq!(again.guest.as_ref().unwrap().boot_id, started.guest.as_ref().unwrap().boot_id);
    assert_eq!(run(&test, &name, &["echo", "on"]).await, "on\n");

    // It goes on after ten seconds: its heartbeat comes twice a second, and may be missed three times.
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    let mut connection =
        test.engine.board().actors().watch(&"root/vms/web/connections/connection-1".to_owned()).unwrap();
    let script = "read now; agent=$(pidof guest-agent); kill -STOP $agent; sleep 10; kill -CONT $agent";
    let stop = command(&["sh", "-c", script]);
    let streams = test.engine.guest_exec(&TestEngine::origin(), &name, stop).await.unwrap();
    let mut input = File::from(streams.stdin);
    input.write_all(b"now\n").unwrap();
    for health in [Health::Unreachable, Health::Ok] {
        for actor in [&mut machine, &mut connection] {
            let reached =
                tokio::time::timeout(PATIENCE, actor.wait_for(|status| status.health == health)).await.is_ok();
            assert!(reached, "{:?} is not {health}", *actor.borrow());
        }
    }
    let back = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert!(connected_at(&back) > connected_at(&again));
    assert_eq!((back.leader, back.lifecycle.state()), (started.leader, VmState::Running));
    assert_eq!(run(&test, &name, &["echo", "on"]).await, "on\n");
}

/// Regression: the vsock device ended with a client that left meanwhile, and nobody reached the guest ever again.
#[tokio::test(flavor = "multi_thread")]
async fn clients_may_leave_a_guest_that_stands_still() {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest().await else { return };
    let name = create(&test, |_| ()).await;
    let started = test.start_vm(&name).await;
    let origin = TestEngine::origin();

    // One that waits and one that writes.
    for script in ["exec sleep 1000", "exec yes"] {
        let streams = test.engine.guest_exec(&origin, &name, command(&["sh", "-c", script])).await.unwrap();
        test.engine.pause_vm(&origin, &name).await.unwrap();
        drop(streams);
        // What it does about that it does within this time, or did.
        tokio::time::sleep(Duration::from_secs(1)).await;
        test.engine.resume_vm(&origin, &name).await.unwrap();
        assert_eq!(run(&test, &name, &["echo", "on"]).await, "on\n", "{script}");
    }

    // The whole VMM, so that nobody answers whoever dials meanwhile.
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    let mut connection = test.engine.board().connections().watch(&(name.clone(), 1)).unwrap();
    let leader = Pid::from_raw(i32::try_from(started.leader).unwrap());
    for (signal, health) in [(Signal::SIGSTOP, Health::Unreachable), (Signal::SIGCONT, Health::Ok)] {
        kill(leader, signal).unwrap();
        let reached = tokio::time::timeout(PATIENCE, machine.wait_for(|status| status.health == health)).await;
        assert!(reached.is_ok(), "it is not {health}");
        if signal == Signal::SIGSTOP {
            // Dialled, and given up.
            let given_up =
                connection.wait_for(|agent| agent.failure.as_ref().is_some_and(|why| why.contains("within")));
            tokio::time::timeout(PATIENCE, given_up).await.expect("nobody dials").unwrap();
        }
    }
    assert_eq!(run(&test, &name, &["echo", "on"]).await, "on\n");
    test.engine.events_before_newest(Filter::default(), None).await.unwrap();
    let events = test.engine.events(Filter::default(), 0, 1000).await.unwrap().rows;
    let guest = [EventKind::GuestUnreachable, EventKind::GuestBack];
    let told: Vec<_> = events.into_iter().map(|row| row.event.kind).filter(|kind| guest.contains(kind)).collect();
    // On a busy machine there may be more of them.
    assert!(told.ends_with(&guest), "{told:?}");

    // What was wrong before is not why it can't be asked now.
    test.engine.pause_vm(&origin, &name).await.unwrap();
    let refused = test.engine.guest_run(&origin, &name, command(&["true"])).await.unwrap_err();
    assert!(refused.text().contains("the VM is paused; resume it first"), "{refused}");
}

/// Regression: the vsock device did not tell the guest of a client that left with something unread.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_gets_all_and_who_leaves_is_missed() {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest().await else { return };
    let name = create(&test, |_| ()).await;
    test.start_vm(&name).await;
    let origin = TestEngine::origin();
    for script in ["exec yes", "exec yes >&2"] {
        let streams = test.engine.guest_exec(&origin, &name, command(&["sh", "-c", script])).await.unwrap();
        // Long enough for all buffers on the way to be full.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let GuestStreams { exec, stdin: _stdin, stdout, stderr } = streams;
        let (unread, _kept) = if script.ends_with("yes") { (stdout, stderr) } else { (stderr, stdout) };
        drop(unread);
        let ended = tokio::time::timeout(PATIENCE, test.engine.guest_wait_exec(&name, exec)).await;
        let ended = ended.unwrap_or_else(|_| panic!("`{script}` writes to nobody for ever"));
        assert_eq!(ended.unwrap(), ExitStatus::Signal(13), "{script}");
    }
    let script = "head -c 1000000 /dev/zero";
    let streams = test.engine.guest_exec(&origin, &name, command(&["sh", "-c", script])).await.unwrap();
    // Longer than the guest's kernel keeps what it has closed (8 s, `VSOCK_CLOSE_TIMEOUT`).
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut wrote = Vec::new();
    let read = spawn_blocking(move || File::from(streams.stdout).read_to_end(&mut wrote));
    assert_eq!(tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap().unwrap(), 1_000_000);
}
