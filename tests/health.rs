//! What `Health` says of a VM, and until when.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use nexus_actors::{StopOptions, VmSetting, supervisor::ChildStatus};
use nexus_model::{
    Health, JobState, Name,
    restart::RestartPolicy,
    vm::{Reason, VmState},
};
use nexus_tests::TestEngine;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);

fn strike(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Follows what the actor of the VM `web` says.
fn machine(test: &TestEngine) -> watch::Receiver<Arc<ChildStatus>> {
    test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap()
}

async fn until(machine: &mut watch::Receiver<Arc<ChildStatus>>, health: Health) {
    tokio::time::timeout(PATIENCE, machine.wait_for(|status| status.health == health)).await.unwrap().unwrap();
}

/// A VM that has crashed and is about to be started again.
async fn crashed() -> (TestEngine, Name, watch::Receiver<Arc<ChildStatus>>) {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let test = test.restart_with_failures().await;
    let mut machine = machine(&test);
    strike(vm.leader, Signal::SIGKILL);
    until(&mut machine, Health::Restarting).await;
    (test, name, machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_the_policy_lets_rest_is_a_failure() {
    let (test, name, mut machine) = crashed().await;
    let setting = VmSetting::RestartPolicy(RestartPolicy::No);
    test.engine.set_vm(&TestEngine::origin(), &name, setting).await.unwrap();
    until(&mut machine, Health::Failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_forgives_a_crash() {
    let (test, name, mut machine) = crashed().await;
    let job = test.engine.stop_vm(&TestEngine::origin(), &name, StopOptions { timeout: None }).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    until(&mut machine, Health::Ok).await;
    assert_eq!(test.state(&name), VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_guest_that_no_longer_answers_is_unreachable() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    // Where nobody listens any more.
    let socket = vm.vsock_socket.clone().unwrap();
    let away = socket.with_extension("away");
    std::fs::rename(&socket, &away).unwrap();
    let test = test.restart().await;
    let mut machine = machine(&test);
    until(&mut machine, Health::Unreachable).await;
    assert_eq!(test.vm(&name).lifecycle.reason(), Reason::VmmStarted);

    std::fs::rename(&away, &socket).unwrap();
    until(&mut machine, Health::Ok).await;
}
