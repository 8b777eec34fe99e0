//! Real guests with an init of their own, and how they end.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says how long it took")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nexus_actors::{GuestCommand, StopOptions, snapshot::VmSnapshot};
use nexus_model::{
    ExitStatus, JobState, Name,
    vm::{Reason, VmState, VmmChoice},
};
use nexus_protocol::Features;
use nexus_tests::{Init, TestEngine};

/// Ten times what any step here took on two busy cores.
const PATIENCE: Duration = Duration::from_secs(600);

async fn until(test: &TestEngine, name: &Name, wanted: impl Fn(&VmSnapshot) -> bool) -> Arc<VmSnapshot> {
    let mut picture = test.engine.board().vms().watch(name).unwrap();
    let reached = tokio::time::timeout(PATIENCE, picture.wait_for(|vm| wanted(vm))).await;
    reached.unwrap_or_else(|_| panic!("VM {name} does not get there: {:#?}", test.vm(name))).unwrap().clone()
}

fn command(words: &[&str]) -> GuestCommand {
    GuestCommand {
        argv: words.iter().map(ToString::to_string).collect(),
        env: Default::default(),
        working_directory: None,
        user: None,
        timeout: None,
    }
}

async fn run(test: &TestEngine, vm: &Name, words: &[&str]) -> String {
    let outcome = test.engine.guest_run(&TestEngine::origin(), vm, command(words)).await.unwrap();
    assert!(outcome.status.is_success(), "{words:?}: {outcome:?}");
    String::from_utf8(outcome.stdout).unwrap()
}

/// A guest under that init comes up, stands still for a moment, comes up again when it starts itself anew, and is off in
/// order when it is told to be.
async fn lives_and_ends_under(init: Init, process_1: &str, reboots: &[&str]) {
    let test = TestEngine::start().await;
    let Some(_turn) = test.import_guest_under(init).await else { return };
    let of_guest = |spec: &mut nexus_model::vm::VmSpec| {
        spec.vmm = VmmChoice::Qemu;
        spec.image = Some("guest".parse().unwrap());
        spec.memory_bytes = 256 << 20;
    };
    let name = test.create("web", of_guest).await.unwrap();
    let begun = Instant::now();
    test.engine.start_vm(&TestEngine::origin(), &name).await.unwrap();
    let first = until(&test, &name, |vm| vm.guest.is_some()).await;
    eprintln!("{init:?}: start → agent answered: {:?}", begun.elapsed());
    assert_eq!(run(&test, &name, &["readlink", "/proc/1/exe"]).await.trim(), process_1);
    assert!(first.guest.as_ref().unwrap().features.contains(&Features::CLOCK.to_owned()));
    let groups = run(&test, &name, &["cat", "/proc/self/cgroup"]).await;
    assert!(groups.contains("/nexus-exec-"), "{groups}");
    test.engine.pause_vm(&TestEngine::origin(), &name).await.unwrap();
    test.engine.resume_vm(&TestEngine::origin(), &name).await.unwrap();

    let begun = Instant::now();
    // It may be gone before it answers.
    let _ = test.engine.guest_run(&TestEngine::origin(), &name, command(reboots)).await;
    until(&test, &name, |vm| vm.leader != first.leader && vm.guest.is_some()).await;
    eprintln!("{init:?}: reboot → agent answered: {:?}", begun.elapsed());
    let history = test.engine.vm_history(&name, 0).await.unwrap();
    assert!(history.iter().any(|line| line.reason == Reason::GuestReboot), "{history:#?}");
    assert!(history.iter().all(|line| line.to != VmState::Crashed), "{history:#?}");

    let begun = Instant::now();
    let options = StopOptions { timeout: Some(PATIENCE) };
    let job = test.engine.stop_vm(&TestEngine::origin(), &name, options).await.unwrap();
    let stopped = until(&test, &name, |vm| vm.lifecycle.state() == VmState::Stopped).await;
    eprintln!("{init:?}: stop → stopped: {:?}", begun.elapsed());
    assert_eq!(test.job(job).await.state, JobState::Done);
    assert_eq!(stopped.lifecycle.reason(), Reason::Requested);
    assert_eq!(stopped.exit, Some(ExitStatus::Code(0)), "the guest did not end by itself: {stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn busybox() {
    lives_and_ends_under(Init::Busybox, "/bin/busybox", &["reboot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd() {
    lives_and_ends_under(Init::Systemd, "/usr/lib/systemd/systemd", &["reboot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openrc() {
    lives_and_ends_under(Init::OpenRc, "/usr/sbin/openrc-init", &["openrc-shutdown", "--reboot", "now"]).await;
}
