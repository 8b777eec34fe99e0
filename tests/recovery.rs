//! What was cut off between two lines, and is finished by the next incarnation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use nexus_actors::{ImportImage, StopOptions, supervisor::ChildStatus};
use nexus_host::unit::{ExitRecord, ProgramRole};
use nexus_model::{
    ErrorKind, ExitStatus, Health, JobState, Name, Timestamp, WorkspaceState,
    restart::RestartPolicy,
    vm::{Desired, Reason, VmSpec, VmState},
};
use nexus_store::{HistoryEntry, Store, VmRow};
use nexus_tests::TestEngine;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn strike(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Leaves a VM as a daemon does that was killed after the VM's run ended for `reason`, and before the next one began.
fn ended(store: &mut Store, policy: RestartPolicy, reason: Reason) {
    let [mut row] = store.vms().unwrap().try_into().unwrap();
    let at = Timestamp(row.created_at.0 + 1);
    let running = row.lifecycle.starting(Reason::Requested, at).unwrap().running(Reason::VmmStarted, at).unwrap();
    let from = row.lifecycle.state();
    row.lifecycle = running.stopped(reason, at).unwrap();
    row.desired = Desired::Running;
    row.spec.restart_policy = policy;
    let to = row.lifecycle.state();
    store.update_vm(&row, Some(&HistoryEntry { at, from, to, reason, detail: String::new() })).unwrap();
}

async fn after_end(policy: RestartPolicy, reason: Reason) -> (TestEngine, Name) {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.ephemeral = true).await.unwrap();
    (test.restart_after(|store| ended(store, policy, reason)).await, name)
}

/// How often the VM has failed, as its actor counts.
fn failures(test: &TestEngine) -> u64 {
    test.engine.board().actors().get(&"root/vms/web/machine".to_owned()).unwrap().failure_count
}

/// A restart is cut off in its stop. `meanwhile` is what happens to the VMM, which gets it, before the next daemon starts.
async fn cut_off_in_the_stop_of_a_restart(meanwhile: impl FnOnce(u32)) {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let before = test.start_vm(&name).await;
    // A guest that takes its time.
    strike(before.leader, Signal::SIGSTOP);
    let options = StopOptions { timeout: Some(PATIENCE) };
    test.engine.restart_vm(&TestEngine::origin(), &name, options).await.unwrap();
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Stopping).await;

    let test = test.restart_after(|_| meanwhile(before.leader)).await;
    let after = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Running && vm.guest.is_some()).await;
    assert_ne!(after.leader, before.leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_cut_off_in_its_stop_is_finished() {
    // The next daemon lets the guest go on before it asks it.
    cut_off_in_the_stop_of_a_restart(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_whose_vm_ended_while_the_daemon_was_away_is_finished() {
    cut_off_in_the_stop_of_a_restart(|leader| strike(leader, Signal::SIGKILL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_rebooted_starts_again() {
    let (test, name) = after_end(RestartPolicy::No, Reason::GuestReboot).await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(failures(&test), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_the_host_ended_starts_again() {
    let (test, name) = after_end(RestartPolicy::No, Reason::HostRebooted).await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
}

/// Another boot: no process of the one before is there, nor is anything of what it had in the runtime folder.
fn lose_power(store: &mut Store, runtime: &Path) {
    for mut row in store.vms().unwrap() {
        let process = row.process.as_mut().unwrap();
        // With its keeper goes all that it keeps, and nobody writes down how.
        strike(process.keeper.pid, Signal::SIGKILL);
        let deadline = Instant::now() + PATIENCE;
        while fs::read(format!("/proc/{}/cmdline", process.leader.pid)).is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < deadline, "the VMM ends with its keeper");
            std::thread::yield_now();
        }
        process.leader.boot_id = "00000000-0000-4000-8000-000000000000".to_owned();
        store.update_vm(&row, None).unwrap();
    }
    fs::remove_dir_all(runtime).unwrap();
}

/// Somebody wants the VM killed while the store can't be written.
async fn refused_while_locked(test: &TestEngine, name: &Name) {
    let database = rusqlite::Connection::open(TestEngine::database(&test.folder)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = test.engine.kill_vm(&TestEngine::origin(), name).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFailed);
    database.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_can_not_be_stored_leaves_the_start_alone() {
    let test =
        TestEngine::start_with(|settings| settings.agent = settings.folders.runtime.with_file_name("agent")).await;
    let (agent, go) = (test.folder.path().join("agent"), test.folder.path().join("go"));
    let (program, wait) = (nexus_tests::program("guest-agent"), go.display());
    let script = format!("#!/bin/sh\nwhile [ ! -e {wait} ]; do sleep 0.05; done\nexec {} \"$@\"\n", program.display());
    fs::write(&agent, script).unwrap();
    fs::set_permissions(&agent, Permissions::from_mode(0o755)).unwrap();
    let name = test.create("web", |_| ()).await.unwrap();
    let start = test.engine.start_vm(&TestEngine::origin(), &name).await.unwrap();
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Starting).await;

    refused_while_locked(&test, &name).await;
    assert_eq!(test.state(&name), VmState::Starting);
    let mut job = test.engine.board().jobs().watch(&start).unwrap();
    fs::write(go, "").unwrap();
    let job = tokio::time::timeout(PATIENCE, job.wait_for(|job| job.state.is_final())).await.unwrap();
    assert_eq!(job.unwrap().state, JobState::Done);
    assert_eq!(test.state(&name), VmState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_can_not_be_stored_leaves_the_restart_alone() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let leader = test.start_vm(&name).await.leader;
    // It takes its time.
    strike(leader, Signal::SIGSTOP);
    let options = StopOptions { timeout: Some(PATIENCE) };
    let restart = test.engine.restart_vm(&TestEngine::origin(), &name, options).await.unwrap();
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Stopping).await;

    refused_while_locked(&test, &name).await;
    assert_eq!(test.state(&name), VmState::Stopping);
    strike(leader, Signal::SIGCONT);
    assert_eq!(test.job(restart).await.state, JobState::Done);
    let machine = test.engine.board().actors().get(&"root/vms/web/machine".to_owned()).unwrap();
    assert_eq!(machine.fault_count, 0, "{machine:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_no_more_start_at_once_than_with_the_daemon() {
    // Two, see the harness.
    let test =
        TestEngine::start_with(|settings| settings.agent = settings.folders.runtime.with_file_name("agent")).await;
    let path = |name: &str| test.folder.path().join(name);
    let (agent, runtime) = (path("agent"), path("run"));
    symlink(nexus_tests::program("guest-agent"), &agent).unwrap();
    let mut names = Vec::new();
    for number in 0..5 {
        let name = test.create(&format!("vm-{number}"), |_| ()).await.unwrap();
        test.start_vm(&name).await;
        names.push(name);
    }
    // From now on a start waits for `go`, and writes down how many are at it with itself.
    let (starting, counts, go) = (path("starting"), path("counts"), path("go"));
    fs::create_dir(&starting).unwrap();
    let script = format!(
        "#!/bin/sh\nmkdir {0}/$$; ls {0} | wc -l >>{1}; while [ ! -e {2} ]; do sleep 0.05; done; rmdir {0}/$$\nexec {3} \"$@\"\n",
        starting.display(),
        counts.display(),
        go.display(),
        nexus_tests::program("guest-agent").display(),
    );
    fs::remove_file(&agent).unwrap();
    fs::write(&agent, script).unwrap();
    fs::set_permissions(&agent, Permissions::from_mode(0o755)).unwrap();
    let two_start = async || {
        let two_start = async {
            while nexus_tests::entries(&starting).len() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, two_start).await.unwrap();
    };
    let test = test.restart_after(|store| lose_power(store, &runtime)).await;
    two_start().await;
    // Nor do those that wait for their turn when the daemon ends, with the next one.
    let forget = |_: &mut Store| {
        fs::remove_dir_all(&starting).unwrap();
        fs::create_dir(&starting).unwrap();
        fs::remove_file(&counts).unwrap();
    };
    let test = test.restart_after(forget).await;
    two_start().await;
    fs::write(go, "").unwrap();
    for name in &names {
        test.wait(name, |vm| vm.guest.is_some()).await;
    }
    let counts = fs::read_to_string(&counts).unwrap();
    let counts: Vec<u32> = counts.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!((counts.len(), counts.iter().max()), (5, Some(&2)), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_what_should_run_does_and_nothing_else() {
    let test = TestEngine::start().await;
    let [wanted, unwanted] =
        [test.create("wanted", |_| ()).await.unwrap(), test.create("unwanted", |_| ()).await.unwrap()];
    let before = [test.start_vm(&wanted).await, test.start_vm(&unwanted).await];
    // It is still at its stop when the power goes.
    strike(before[1].leader, Signal::SIGSTOP);
    test.engine.stop_vm(&TestEngine::origin(), &unwanted, StopOptions { timeout: Some(PATIENCE) }).await.unwrap();
    test.wait(&unwanted, |vm| vm.lifecycle.state() == VmState::Stopping).await;
    let runtime = test.folder.path().join("run");
    let test = test.restart_after(|store| lose_power(store, &runtime)).await;
    let after = test.wait(&wanted, |vm| vm.guest.is_some()).await;
    assert_ne!(after.leader, before[0].leader);
    let reasons = |lines: Vec<nexus_actors::HistoryLine>| lines.into_iter().map(|line| line.reason).collect::<Vec<_>>();
    let history = reasons(test.engine.vm_history(&wanted, 3).await.unwrap());
    assert_eq!(history, [Reason::VmmStarted, Reason::HostRebooted, Reason::HostRebooted]);
    let at_rest = test.vm(&unwanted);
    assert_eq!((at_rest.lifecycle.state(), at_rest.lifecycle.reason()), (VmState::Stopped, Reason::HostRebooted));
    for vm in ["wanted", "unwanted"] {
        let status = test.engine.board().actors().get(&format!("root/vms/{vm}/machine")).unwrap();
        assert_eq!(status.failure_count, 0, "a reboot is nobody's failure: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_off_is_what_the_policy_makes_of_it() {
    let (test, name) = after_end(RestartPolicy::Always, Reason::GuestPoweroff).await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(failures(&test), 0);

    let (test, name) = after_end(RestartPolicy::OnFailure, Reason::GuestPoweroff).await;
    test.gone(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_before_a_start_is_told() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let test = test.restart_with_failures().await;
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    strike(vm.leader, Signal::SIGKILL);
    let waits = machine.wait_for(|status| status.next_restart_at != Timestamp::NEVER);
    tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap();
    test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(machine.borrow().next_restart_at, Timestamp::NEVER);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_guest_is_forgotten_with_its_run() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    strike(vm.leader, Signal::SIGSTOP);
    let unreachable = machine.wait_for(|status| status.health == Health::Unreachable);
    tokio::time::timeout(PATIENCE, unreachable).await.unwrap().unwrap();
    test.engine.kill_vm(&TestEngine::origin(), &name).await.unwrap();
    assert_eq!(test.state(&name), VmState::Stopped);
    let well = machine.wait_for(|status| status.health == Health::Ok);
    tokio::time::timeout(PATIENCE, well).await.unwrap().unwrap();
}

/// The one VM has crashed while no daemon was there, and is as `then` makes it.
fn write_crash(store: &mut Store, then: impl FnOnce(&mut VmRow, Timestamp)) {
    let [mut row] = store.vms().unwrap().try_into().unwrap();
    let at = Timestamp::from(SystemTime::now());
    let running = row.lifecycle.starting(Reason::Requested, at).unwrap().running(Reason::VmmStarted, at).unwrap();
    let from = row.lifecycle.state();
    row.lifecycle = running.crashed(Reason::VmmExited, at).unwrap();
    then(&mut row, at);
    let (to, reason) = (row.lifecycle.state(), row.lifecycle.reason());
    store.update_vm(&row, Some(&HistoryEntry { at, from, to, reason, detail: String::new() })).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_was_one_too_many_is_given_up_on_by_the_next_incarnation() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let cut_off = |row: &mut VmRow, at| {
        row.desired = Desired::Running;
        row.recent_failures = vec![at; 6];
    };
    let test = test.restart_after(|store| write_crash(store, cut_off)).await;
    let vm = test.wait(&name, |vm| vm.lifecycle.state() != VmState::Crashed).await;
    assert_eq!((vm.lifecycle.state(), vm.lifecycle.reason()), (VmState::Failed, Reason::TooManyFailures));

    // Who forgives it has it tried again.
    test.engine.reset_failed(&TestEngine::origin(), "root/vms/web/machine").await.unwrap();
    let back = test.wait(&name, |vm| vm.guest.is_some()).await;
    // And it may crash again before it is given up on.
    strike(back.leader, Signal::SIGKILL);
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Crashed).await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
}

/// Imports an image of next to nothing.
async fn import(test: &TestEngine, name: &str) {
    let root = test.folder.path().canonicalize().unwrap().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    let request = ImportImage { path: root, name: name.parse().unwrap(), size_bytes: None };
    let job = test.engine.import_image(&TestEngine::origin(), request).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_whose_disk_is_away_is_missing_until_it_is_back() {
    let test = TestEngine::start().await;
    import(&test, "small").await;
    let name: Name = "disk".parse().unwrap();
    let base = "small".parse().unwrap();
    let job = test.engine.create_workspace(&TestEngine::origin(), Some(name.clone()), base).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let place = "root/workspaces/disk".to_owned();
    let disk = test.engine.board().workspaces().get(&name).unwrap().path.join(nexus_host::storage::DISK);
    let away = disk.with_extension("away");
    fs::rename(&disk, &away).unwrap();
    test.engine.restart_actor(&place).await.unwrap();
    let is = async |test: &TestEngine, state: WorkspaceState, health: Health| {
        let mut actor = test.engine.board().actors().watch(&place).unwrap();
        let well = |status: &std::sync::Arc<ChildStatus>| status.health == health;
        let status = tokio::time::timeout(PATIENCE, actor.wait_for(well)).await.unwrap().unwrap().clone();
        assert_eq!((status.failure_count, status.fault_count), (1, 0));
        let workspace = test.engine.board().workspaces().get(&name).unwrap();
        assert_eq!(workspace.state, state, "{workspace:?}");
        workspace.failure.clone().map(|(_, why)| why)
    };
    let why = is(&test, WorkspaceState::Missing, Health::Failed).await.unwrap();
    assert!(why.contains("put it back"), "{why}");
    // Another daemon finds the same, and takes nothing away.
    let test = test.restart().await;
    is(&test, WorkspaceState::Missing, Health::Failed).await;
    fs::rename(&away, &disk).unwrap();
    test.engine.restart_actor(&place).await.unwrap();
    is(&test, WorkspaceState::Ready, Health::Ok).await;
}

/// Whether the disk of an ephemeral VM, made for it, is there once a removal that was cut off has gone on.
async fn disk_is_left(desired: Desired) -> bool {
    let test = TestEngine::start().await;
    import(&test, "small").await;
    let spec = |spec: &mut VmSpec| {
        spec.image = Some("small".parse().unwrap());
        spec.ephemeral = true;
    };
    let name = test.create("web", spec).await.unwrap();
    let mut disk = test.engine.board().workspaces().watch(&name).unwrap();
    let made = disk.wait_for(|disk| disk.state == WorkspaceState::Attached);
    tokio::time::timeout(PATIENCE, made).await.unwrap().unwrap();

    let cut_off = |store: &mut Store| {
        let [mut row] = store.vms().unwrap().try_into().unwrap();
        row.desired = desired;
        store.update_vm(&row, None).unwrap();
    };
    let test = test.restart_after(cut_off).await;
    test.gone(&name).await;
    // The disks go with the job, a moment after the VM.
    test.engine.jobs_ended(PATIENCE).await;
    assert!(test.engine.board().jobs().all().iter().all(|job| job.state.is_final()));
    test.engine.board().workspaces().get(&name).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_goes_on_as_it_was_asked_for() {
    assert!(disk_is_left(Desired::Removed).await);
    assert!(!disk_is_left(Desired::RemovedWithOwnDisks).await);
    assert!(!disk_is_left(Desired::RemovedWithDisks).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_vm_whose_next_start_is_called_off_goes() {
    let (test, name) = after_end(RestartPolicy::Always, Reason::GuestPoweroff).await;
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    let waits = machine.wait_for(|status| status.next_restart_at != Timestamp::NEVER);
    tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap();
    let mut vm = test.engine.board().vms().watch(&name).unwrap();
    test.engine.stop_vm(&TestEngine::origin(), &name, StopOptions { timeout: None }).await.unwrap();
    tokio::time::timeout(PATIENCE, async { while vm.changed().await.is_ok() {} }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_vm_that_never_ran_stays() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.ephemeral = true).await.unwrap();
    let test = test.restart().await;
    test.engine.jobs_ended(PATIENCE).await;
    assert_eq!(test.state(&name), VmState::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_could_not_be_stored_is_tried_again() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let leader = test.start_vm(&name).await.leader;
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    strike(leader, Signal::SIGKILL);
    let waits = machine.wait_for(|status| !status.next_restart_at.is_never());
    let first = tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap().next_restart_at;
    // Nobody else can write until this one is done, and the start is due meanwhile.
    let database = rusqlite::Connection::open(TestEngine::database(&test.folder)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let later = machine.wait_for(|status| status.next_restart_at > first);
    let later = tokio::time::timeout(PATIENCE, later).await.unwrap().unwrap().next_restart_at;
    let wait = Timestamp::from(SystemTime::now()).until(later).as_secs();
    assert!((50..=60).contains(&wait), "tried again in {wait} s");
    assert_eq!(test.state(&name), VmState::Crashed);
    database.execute_batch("ROLLBACK").unwrap();
    // Whoever does not want to wait starts it.
    test.start_vm(&name).await;
    assert!(machine.borrow().next_restart_at.is_never());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_could_not_be_taken_away_are_no_hindrance() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let runtime = test.folder.path().join("run/vm").join(test.vm(&name).id.to_string());
    fs::create_dir_all(&runtime).unwrap();
    let record = ExitRecord { who: ProgramRole::Vmm, status: ExitStatus::Code(0), at: Timestamp(1) };
    fs::write(runtime.join("exit.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    test.start_vm(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_was_cut_off_before_anything_ran_is_finished() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let cut_off = |store: &mut Store| {
        let [mut row] = store.vms().unwrap().try_into().unwrap();
        row.desired = Desired::Running;
        store.update_vm(&row, None).unwrap();
    };
    let test = test.restart_after(cut_off).await;
    test.wait(&name, |vm| vm.guest.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgives_a_vm_starts_none_that_somebody_stopped() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let given_up = |row: &mut VmRow, at| row.lifecycle = row.lifecycle.failed(Reason::TooManyFailures, at).unwrap();
    let test = test.restart_after(|store| write_crash(store, given_up)).await;
    test.engine.kill_vm(&TestEngine::origin(), &name).await.unwrap();
    test.engine.reset_failed(&TestEngine::origin(), "root/vms/web/machine").await.unwrap();
    assert_eq!(test.state(&name), VmState::Failed);
    // What was asked for last holds for the next daemon as well.
    let test = test.restart().await;
    assert_eq!(test.state(&name), VmState::Failed);
}
