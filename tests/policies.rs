//! What becomes of a VM that ended: its restart policy, and that a stop stays a stop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nexus_actors::{Filter, StopOptions, VmSetting, supervisor::ChildStatus};
use nexus_model::{
    EventKind, ExitStatus, Health, JobState, Name, Timestamp,
    restart::RestartPolicy,
    vm::{Reason, VmState},
};
use nexus_tests::{PATIENCE, TestEngine};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::watch;

fn strike(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// A VM that runs, under a daemon that knows of so many failures of it, each so long ago.
async fn failed(times: usize, ago: Duration) -> (TestEngine, Name, u32) {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let leader = test.start_vm(&name).await.leader;
    let failures = |store: &mut nexus_store::Store| {
        let [mut row] = store.vms().unwrap().try_into().unwrap();
        row.recent_failures = vec![Timestamp::from(SystemTime::now() - ago); times];
        store.update_vm(&row, None).unwrap();
    };
    let test = test.restart_after(failures).await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
    (test, name, leader)
}

/// Waits until the actor of a VM is as wanted.
async fn machine(test: &TestEngine, vm: &Name, wanted: impl FnMut(&Arc<ChildStatus>) -> bool) -> Arc<ChildStatus> {
    let mut machine: watch::Receiver<_> =
        test.engine.board().actors().watch(&format!("root/vms/{vm}/machine")).unwrap();
    tokio::time::timeout(PATIENCE, machine.wait_for(wanted)).await.unwrap().unwrap().clone()
}

async fn stop(test: &TestEngine, vm: &Name) -> JobState {
    let job = test.engine.stop_vm(&TestEngine::origin(), vm, StopOptions { timeout: None }).await.unwrap();
    test.job(job).await.state
}

/// Every state that a VM came to, the newest first.
async fn states(test: &TestEngine, vm: &Name) -> Vec<VmState> {
    test.engine.vm_history(vm, 0).await.unwrap().iter().map(|line| line.to).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixth_failure_in_ten_minutes_is_one_too_many() {
    let (test, name, leader) = failed(5, Duration::from_secs(60)).await;
    strike(leader, Signal::SIGKILL);
    let vm = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Failed).await;
    assert_eq!(vm.lifecycle.reason(), Reason::TooManyFailures);
    let status = machine(&test, &name, |machine| machine.health == Health::Failed).await;
    assert!(status.next_restart_at.is_never(), "{status:?}");
    // Nor does another daemon start it.
    let test = test.restart().await;
    test.engine.autostart().await.unwrap();
    assert_eq!(test.state(&name), VmState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_more_than_ten_minutes_ago_are_forgotten() {
    let (test, name, leader) = failed(5, Duration::from_secs(700)).await;
    strike(leader, Signal::SIGKILL);
    test.wait(&name, |vm| vm.leader != leader && vm.guest.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_somebody_asks_for_begins_the_count_anew() {
    let (test, name, _) = failed(5, Duration::from_secs(60)).await;
    assert_eq!(stop(&test, &name).await, JobState::Done);
    let leader = test.start_vm(&name).await.leader;
    strike(leader, Signal::SIGKILL);
    test.wait(&name, |vm| ![0, leader].contains(&vm.leader) && vm.guest.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_moment_counts() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.restart_policy = RestartPolicy::Always).await.unwrap();
    let leader = test.start_vm(&name).await.leader;
    strike(leader, Signal::SIGKILL);
    let leader = test.wait(&name, |vm| ![0, leader].contains(&vm.leader) && vm.guest.is_some()).await.leader;

    let set = async |policy| {
        test.engine.set_vm(&TestEngine::origin(), &name, VmSetting::RestartPolicy(policy)).await.unwrap();
    };
    set(RestartPolicy::No).await;
    assert_eq!(test.vm(&name).leader, leader);
    strike(leader, Signal::SIGKILL);
    let status = machine(&test, &name, |machine| machine.health == Health::Failed).await;
    assert!(status.next_restart_at.is_never(), "{status:?}");
    // What is set later is no reason for a start.
    set(RestartPolicy::Always).await;
    assert_eq!(test.state(&name), VmState::Crashed);
    let test = test.restart().await;
    assert_eq!(test.state(&name), VmState::Crashed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_stop_is_a_stop() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.restart_policy = RestartPolicy::Always).await.unwrap();
    let leader = test.start_vm(&name).await.leader;
    // It takes its time.
    strike(leader, Signal::SIGSTOP);
    let long = StopOptions { timeout: Some(Duration::from_secs(3600)) };
    let job = test.engine.stop_vm(&TestEngine::origin(), &name, long).await.unwrap();
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Stopping).await;
    strike(leader, Signal::SIGKILL);
    assert_eq!(test.job(job).await.state, JobState::Done);
    let vm = test.vm(&name);
    assert_eq!((vm.lifecycle.state(), vm.lifecycle.reason()), (VmState::Stopped, Reason::Requested));
    assert_eq!(states(&test, &name).await[..2], [VmState::Stopped, VmState::Stopping]);
    let status = machine(&test, &name, |machine| machine.health == Health::Ok).await;
    assert_eq!((status.failure_count, status.next_restart_at), (0, Timestamp::NEVER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_races_with_a_crash_wins() {
    let test = TestEngine::start().await;
    let always = |spec: &mut nexus_model::vm::VmSpec| spec.restart_policy = RestartPolicy::Always;
    let name = test.create("web", always).await.unwrap();
    for round in 0..12 {
        let leader = test.start_vm(&name).await.leader;
        strike(leader, Signal::SIGKILL);
        // From before the end is noticed to long after.
        tokio::time::sleep(Duration::from_millis(round * 4)).await;
        assert_eq!(stop(&test, &name).await, JobState::Done);
        assert_eq!(test.state(&name), VmState::Stopped);
        let status = machine(&test, &name, |machine| machine.health == Health::Ok).await;
        assert!(status.next_restart_at.is_never(), "{status:?}");
    }
    let test = test.restart().await;
    test.engine.autostart().await.unwrap();
    assert_eq!(test.state(&name), VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_back_off_holds_for_the_next_daemon() {
    let (test, name, leader) = failed(3, Duration::from_secs(60)).await;
    strike(leader, Signal::SIGKILL);
    machine(&test, &name, |machine| !machine.next_restart_at.is_never()).await;
    assert_eq!(stop(&test, &name).await, JobState::Done);
    let test = test.restart().await;
    test.engine.autostart().await.unwrap();
    assert_eq!(test.state(&name), VmState::Stopped);
    let status = machine(&test, &name, |machine| machine.health == Health::Ok).await;
    assert!(status.next_restart_at.is_never(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn back_off_of_one_vm_delays_no_other() {
    // Its fifth failure is followed by 16 s of back-off.
    let (test, name, leader) = failed(4, Duration::from_secs(60)).await;
    let other = test.create("db", |_| ()).await.unwrap();
    let busy = test.start_vm(&other).await.leader;
    strike(leader, Signal::SIGKILL);
    let waits = machine(&test, &name, |machine| !machine.next_restart_at.is_never()).await;
    let wait = test.vm(&name).lifecycle.changed_at().until(waits.next_restart_at);
    assert!((12..20).contains(&wait.as_secs()), "the fifth wait is of 16 s, a fifth more or less: {wait:?}");
    // One that crashes later is back earlier, and does what it is told.
    strike(busy, Signal::SIGKILL);
    test.wait(&other, |vm| ![0, busy].contains(&vm.leader) && vm.guest.is_some()).await;
    assert_eq!(stop(&test, &other).await, JobState::Done);
    test.start_vm(&other).await;
    assert_eq!(test.state(&name), VmState::Crashed);
    assert_eq!(machine(&test, &name, |_| true).await.next_restart_at, waits.next_restart_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_is_asked_to_stop_once_it_goes_on() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    test.start_vm(&name).await;
    test.engine.pause_vm(&TestEngine::origin(), &name).await.unwrap();
    assert_eq!(stop(&test, &name).await, JobState::Done);
    let vm = test.vm(&name);
    assert_eq!((vm.lifecycle.state(), vm.lifecycle.reason()), (VmState::Stopped, Reason::Requested));
    assert_eq!(vm.exit, Some(ExitStatus::Code(0)), "it was not asked: {vm:?}");
}

/// What happened to the VM of these kinds, as kind, from, to, reason and detail.
async fn told(test: &TestEngine, kinds: &[EventKind]) -> Vec<[String; 5]> {
    test.engine.events_before_newest(Filter::default(), None).await.unwrap();
    let page = test.engine.events(Filter::default(), 0, 1000).await.unwrap();
    let events = page.rows.into_iter().map(|row| row.event).filter(|event| kinds.contains(&event.kind));
    events
        .map(|event| {
            assert_eq!(event.vm.unwrap().name.as_str(), "web");
            [event.kind.to_string(), event.from, event.to, event.reason, event.detail]
        })
        .collect()
}

/// Nobody was told: neither of the change, nor that the VM would stay down for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_setting_and_what_it_calls_off_are_told() {
    let kinds = [EventKind::VmChanged, EventKind::VmRestartCalledOff];
    let (test, name, leader) = failed(3, Duration::from_secs(60)).await;
    let set = async |setting| test.engine.set_vm(&TestEngine::origin(), &name, setting).await.unwrap();
    set(VmSetting::Autostart(true)).await;
    set(VmSetting::Autostart(true)).await;
    strike(leader, Signal::SIGKILL);
    machine(&test, &name, |machine| !machine.next_restart_at.is_never()).await;
    let crash = test.engine.vm_history(&name, 1).await.unwrap().remove(0).detail;
    assert!(crash.starts_with("the VMM was killed by signal 9; started again in "), "{crash}");
    set(VmSetting::RestartPolicy(RestartPolicy::No)).await;
    let expected = [
        ["vm-changed", "no", "yes", "autostart", ""],
        ["vm-changed", "on-failure", "no", "restart-policy", ""],
        ["vm-restart-called-off", "crashed", "crashed", "restart-policy", "its restart policy is `no` now"],
    ];
    assert_eq!(told(&test, &kinds).await, expected.map(|event| event.map(str::to_owned)));
}

/// A guest that powered off is stopped already, so that a stop of it is no change of its state.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_what_would_start_again_is_told() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.restart_policy = RestartPolicy::Always).await.unwrap();
    let leader = test.start_vm(&name).await.leader;
    // The agent that is a process takes it for an order to end, which is what a guest's power-off looks like.
    strike(leader, Signal::SIGTERM);
    machine(&test, &name, |machine| !machine.next_restart_at.is_never()).await;
    assert_eq!(test.state(&name), VmState::Stopped, "it powered off");
    assert_eq!(stop(&test, &name).await, JobState::Done);
    let called_off = ["vm-restart-called-off", "stopped", "stopped", "requested", "somebody stopped it"];
    assert_eq!(told(&test, &[EventKind::VmRestartCalledOff]).await, [called_off.map(str::to_owned)]);
}
