//! The engine with VMs that are plain processes: real shims, real agents, a real store, no bus.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use futures_util::FutureExt;
use nexus_actors::{
    GuestCommand, ImportAsset, ImportImage, RemoveOptions, StopOptions, VmSetting,
    snapshot::{Change, Update},
};
use nexus_model::{
    AssetKind, ErrorKind, ExitStatus, Health, JobState, WorkspaceState,
    restart::RestartPolicy,
    vm::{Reason, VmSpec, VmState, VmmChoice},
};
use nexus_tests::{GuestParts, PATIENCE, TestEngine};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn shell(script: &str) -> GuestCommand {
    GuestCommand {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: Default::default(),
        working_directory: None,
        user: None,
        timeout: None,
    }
}

fn strike(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// A process that stands still until this is dropped.
struct Held(u32);

impl Held {
    /// What holds a VMM: its parent, whose end the end of the VM waits for.
    fn keeper_of(leader: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{leader}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
        assert_eq!(std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap(), "nexus-shim\n");
        let keeper = parent.parse().unwrap();
        strike(keeper, Signal::SIGSTOP);
        Self(keeper)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        strike(self.0, Signal::SIGCONT);
    }
}

/// Regression: creation, start and removal were steps of the caller, and a caller that gave up between them left a VM
/// that nobody had asked for.
/// As much memory as this machine has, of which some is taken.
fn not_to_spare() -> u64 {
    let mebibytes = nexus_host::memory::total_bytes().unwrap() >> 20;
    (mebibytes - 128) << 20
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_run_starts_though_its_caller_gives_up() {
    let test = TestEngine::start().await;
    let spec = VmSpec { vmm: VmmChoice::Process, ..VmSpec::default() };
    let origin = TestEngine::origin();
    let mut changes = test.engine.board().follow();
    let mut run = Box::pin(test.engine.run_vm(&origin, Some("web".parse().unwrap()), spec));
    assert!((&mut run).now_or_never().is_none());
    drop(run);
    let name = "web".parse().unwrap();
    let made = async { while !matches!(changes.recv().await, Some(Change::Vm(Update::Added(..)))) {} };
    tokio::time::timeout(PATIENCE, made).await.unwrap();
    test.wait(&name, |vm| vm.guest.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_lives_from_creation_to_removal() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.env = [("GREETING".into(), "hello".into())].into()).await.unwrap();
    assert_eq!(test.state(&name), VmState::Created);

    let vm = test.start_vm(&name).await;
    assert_eq!(vm.lifecycle.state(), VmState::Running);
    assert_ne!(vm.leader, 0);
    assert!(!vm.isolated);

    let outcome = test.engine.guest_run(&TestEngine::origin(), &name, shell("echo $GREETING; exit 3")).await.unwrap();
    assert_eq!(outcome.status, ExitStatus::Code(3));
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "hello\n");

    let job = test.engine.stop_vm(&TestEngine::origin(), &name, StopOptions { timeout: None }).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let vm = test.vm(&name);
    assert_eq!((vm.lifecycle.state(), vm.lifecycle.reason()), (VmState::Stopped, Reason::Requested));
    assert_eq!(vm.leader, 0);

    let job = test.engine.remove_vm(&TestEngine::origin(), &name, RemoveOptions::default()).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    assert!(test.engine.board().vms().get(&name).is_none());
    assert!(test.engine.board().connections().all().is_empty());
    let left = nexus_tests::entries(&test.folder.path().join("run/vm"));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_vm_comes_back_by_its_policy() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let before = test.start_vm(&name).await;
    strike(before.leader, Signal::SIGKILL);
    let crashed = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Crashed).await;
    assert_eq!(crashed.exit, Some(ExitStatus::Signal(9)));
    assert_eq!(crashed.lifecycle.reason(), Reason::VmmExited);
    let after = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Running && vm.guest.is_some()).await;
    assert_ne!(after.leader, before.leader);
    let history = test.engine.vm_history(&name, 0).await.unwrap();
    let states: Vec<_> = history.iter().rev().map(|line| line.to).collect();
    let [starting, running, crashed] = [VmState::Starting, VmState::Running, VmState::Crashed];
    assert_eq!(states, [starting, running, crashed, starting, running]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_vm_without_a_policy_stays_crashed() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.restart_policy = RestartPolicy::No).await.unwrap();
    let vm = test.start_vm(&name).await;
    strike(vm.leader, Signal::SIGABRT);
    let crashed = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Crashed).await;
    assert_eq!(crashed.exit, Some(ExitStatus::Signal(6)));
    // Another VM that crashes later and does come back, after some 1 s and then some 2 s, tells that the time for it is over.
    let other = test.create("db", |_| ()).await.unwrap();
    let mut leader = test.start_vm(&other).await.leader;
    for _ in 0..2 {
        strike(leader, Signal::SIGKILL);
        leader = test.wait(&other, |vm| ![0, leader].contains(&vm.leader) && vm.guest.is_some()).await.leader;
    }
    assert_eq!(test.state(&name), VmState::Crashed);
    let history = test.engine.vm_history(&name, 0).await.unwrap();
    let states: Vec<_> = history.iter().rev().map(|line| line.to).collect();
    assert_eq!(states, [VmState::Starting, VmState::Running, VmState::Crashed]);
    // A stop of what has crashed says that nobody wants it back.
    let job = test.engine.stop_vm(&TestEngine::origin(), &name, StopOptions { timeout: None }).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    assert_eq!(test.state(&name), VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_adopts_what_runs() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let before = test.start_vm(&name).await;
    let test = test.restart().await;
    let after = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(after.leader, before.leader);
    assert_eq!(after.lifecycle, before.lifecycle);
    let outcome = test.engine.guest_run(&TestEngine::origin(), &name, shell("echo still here")).await.unwrap();
    assert_eq!(outcome.stdout, b"still here\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_the_daemon_is_away_is_known() {
    let mut test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.restart_policy = RestartPolicy::No).await.unwrap();
    let vm = test.start_vm(&name).await;
    test.shut_down().await;
    strike(vm.leader, Signal::SIGKILL);
    let test = test.restart().await;
    let vm = test.wait(&name, |vm| vm.lifecycle.state() == VmState::Crashed).await;
    assert_eq!(vm.exit, Some(ExitStatus::Signal(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_can_be_paused_and_resumed() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    test.start_vm(&name).await;
    let origin = TestEngine::origin();
    test.engine.pause_vm(&origin, &name).await.unwrap();
    assert_eq!(test.state(&name), VmState::Paused);
    assert_eq!(test.engine.pause_vm(&origin, &name).await.unwrap_err().kind(), ErrorKind::InvalidState);
    test.engine.resume_vm(&origin, &name).await.unwrap();
    assert_eq!(test.state(&name), VmState::Running);
    let outcome = test.engine.guest_run(&origin, &name, shell("true")).await.unwrap();
    assert!(outcome.status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_machine_actor_leaves_its_vm_alone() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let before = test.start_vm(&name).await;
    test.engine.restart_actor("root/vms/web/machine").await.unwrap();
    let after = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(after.leader, before.leader);
    let status = test.engine.board().actors().get(&"root/vms/web/machine".to_owned()).unwrap();
    assert!(status.generation > 1, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_change_nothing() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let origin = TestEngine::origin();
    let kind = |error: nexus_actors::Error| error.kind();
    assert_eq!(test.create("web", |_| ()).await.map_err(kind), Err(ErrorKind::AlreadyExists));
    assert_eq!(test.create("big", |spec| spec.vcpus = 1000).await.map_err(kind), Err(ErrorKind::InvalidArgs));
    let no_image = |spec: &mut VmSpec| spec.image = Some("nothing".parse().unwrap());
    assert_eq!(test.create("imageless", no_image).await.map_err(kind), Err(ErrorKind::NotFound));
    assert_eq!(test.engine.pause_vm(&origin, &name).await.map_err(kind), Err(ErrorKind::InvalidState));
    assert_eq!(
        test.engine.guest_run(&origin, &name, shell("true")).await.map(|_| ()).map_err(kind),
        Err(ErrorKind::GuestUnavailable)
    );
    test.start_vm(&name).await;
    let again = test.engine.start_vm(&origin, &name).await.unwrap();
    let again = test.job(again).await;
    assert_eq!(again.error.map(|(kind, _)| kind), Some(ErrorKind::InvalidState));
    let removal = test.engine.remove_vm(&origin, &name, RemoveOptions::default()).await;
    assert_eq!(removal.map_err(kind), Err(ErrorKind::InvalidState));
    assert_eq!(test.engine.board().vms().count(), 1);
    assert_eq!(test.state(&name), VmState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_hosts_is_refused() {
    let test = TestEngine::start().await;
    let name = test.create("huge", |spec| spec.memory_bytes = not_to_spare()).await.unwrap();
    let job = test.engine.start_vm(&TestEngine::origin(), &name).await.unwrap();
    let (kind, text) = test.job(job).await.error.unwrap();
    assert_eq!(kind, ErrorKind::ResourcesExhausted, "{text}");
    assert_eq!(test.state(&name), VmState::Failed);
    let mut machine = test.engine.board().actors().watch(&"root/vms/huge/machine".to_owned()).unwrap();
    let failed = machine.wait_for(|status| status.health == Health::Failed);
    tokio::time::timeout(Duration::from_secs(60), failed).await.unwrap().unwrap();

    // What another nexusd finds says the same.
    let test = test.restart().await;
    let mut machine = test.engine.board().actors().watch(&"root/vms/huge/machine".to_owned()).unwrap();
    let failed = machine.wait_for(|status| status.health == Health::Failed);
    tokio::time::timeout(Duration::from_secs(60), failed).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_says_nothing_is_unreachable_until_it_does() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    let patience = Duration::from_secs(60);

    strike(vm.leader, Signal::SIGSTOP);
    let unreachable = machine.wait_for(|status| status.health == Health::Unreachable);
    tokio::time::timeout(patience, unreachable).await.unwrap().unwrap();
    let silent = test.vm(&name);
    assert_eq!((silent.lifecycle.state(), silent.leader), (VmState::Running, vm.leader));
    assert!(silent.guest.is_none());

    strike(vm.leader, Signal::SIGCONT);
    tokio::time::timeout(patience, machine.wait_for(|status| status.health == Health::Ok)).await.unwrap().unwrap();
    let back = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_eq!(back.leader, vm.leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_is_not_unreachable() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let before = test.start_vm(&name).await;
    test.engine.pause_vm(&TestEngine::origin(), &name).await.unwrap();
    let mut changes = test.engine.board().follow();
    // Another VM counts the heartbeats: each time that it misses three, the paused one has gone without three as well.
    let other = test.create("db", |_| ()).await.unwrap();
    let leader = test.start_vm(&other).await.leader;
    let mut counter = test.engine.board().actors().watch(&"root/vms/db/machine".to_owned()).unwrap();
    for _ in 0..2 {
        for (signal, health) in [(Signal::SIGSTOP, Health::Unreachable), (Signal::SIGCONT, Health::Ok)] {
            strike(leader, signal);
            let counted = counter.wait_for(|status| status.health == health);
            tokio::time::timeout(PATIENCE, counted).await.unwrap().unwrap();
        }
        test.wait(&other, |vm| vm.guest.is_some()).await;
    }
    while let Ok(change) = changes.try_recv() {
        if let Change::Actor(Update::Changed(actor, status)) = change
            && actor.starts_with("root/vms/web/")
        {
            assert_eq!(status.health, Health::Ok, "{actor}");
        }
    }
    let after = test.vm(&name);
    assert_eq!((after.lifecycle.state(), &after.guest), (VmState::Paused, &before.guest));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_vm_survives_a_restart_and_goes_when_it_stops() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.ephemeral = true).await.unwrap();
    let before = test.start_vm(&name).await;
    let options = StopOptions { timeout: None };
    let job = test.engine.restart_vm(&TestEngine::origin(), &name, options).await.unwrap();
    let job = test.job(job).await;
    assert_eq!(job.state, JobState::Done, "{:?}", job.error);
    let after = test.wait(&name, |vm| vm.guest.is_some()).await;
    assert_ne!(after.leader, before.leader);

    let job = test.engine.stop_vm(&TestEngine::origin(), &name, options).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    test.gone(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_vm_that_can_not_start_goes() {
    let test = TestEngine::start().await;
    let too_large = |spec: &mut VmSpec| {
        spec.ephemeral = true;
        spec.memory_bytes = not_to_spare();
    };
    let name = test.create("web", too_large).await.unwrap();
    let job = test.engine.start_vm(&TestEngine::origin(), &name).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Failed);
    test.gone(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_when_their_actor_is_restarted() {
    let mut test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    // The agent can't answer, so the stop takes until its time is over.
    strike(vm.leader, Signal::SIGSTOP);
    let stop = StopOptions { timeout: Some(Duration::from_secs(3)) };
    let job = test.engine.stop_vm(&origin, &name, stop).await.unwrap();
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Stopping).await;
    test.engine.restart_actor("root/jobs").await.unwrap();
    assert_eq!(test.engine.board().jobs().get(&job).unwrap().state, JobState::Running);
    assert_eq!(test.job(job).await.state, JobState::Done);
    assert_eq!(test.state(&name), VmState::Stopped);
    // The store says the same of it as the bus does.
    test.shut_down().await;
    let store = nexus_store::Store::open(&TestEngine::database(&test.folder)).unwrap();
    assert_eq!(store.job(job).unwrap().state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_caller_leaves_is_whole() {
    let test = TestEngine::start().await;
    for step in 0..30 {
        let name = format!("vm-{step}");
        // The caller goes at one moment or another of it, as a handler whose deadline is over does.
        let patience = Duration::from_micros(100 * step);
        let _ = tokio::time::timeout(patience, test.create(&name, |_| ())).await;
        match test.create(&name, |_| ()).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", error.text()),
            Ok(_) => assert_eq!(step, 0, "what was asked for was begun"),
        }
        let setting = VmSetting::Label("here".to_owned());
        test.engine.set_vm(&TestEngine::origin(), &name.parse().unwrap(), setting).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_removed_is_removed_once_and_its_name_is_free_after_that() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let name = test.create("web", |_| ()).await.unwrap();
    let old = test.start_vm(&name).await;
    let keeper = Held::keeper_of(old.leader);
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    let job = test.engine.remove_vm(&origin, &name, force).await.unwrap();
    let refused = [
        test.engine.remove_vm(&origin, &name, force).await.map(drop),
        test.engine.start_vm(&origin, &name).await.map(drop),
        test.create("web", |_| ()).await.map(drop),
    ];
    for refusal in refused {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Busy, "{}", refusal.text());
        assert!(refusal.text().contains("is being removed"), "{}", refusal.text());
    }
    assert_eq!(test.engine.board().jobs().get(&job).unwrap().state, JobState::Running);

    drop(keeper);
    let freed = async {
        loop {
            match test.create("web", |_| ()).await {
                Ok(_) => return test.vm(&name),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{}", error.text()),
            }
            tokio::task::yield_now().await;
        }
    };
    let new = tokio::time::timeout(PATIENCE, freed).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    assert_ne!(new.id, old.id);
    assert_eq!(test.start_vm(&name).await.id, new.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_disk_could_not_be_made_is_told_even_after_a_restart() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let root = test.folder.path().canonicalize().unwrap().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    let request = ImportImage { path: root, name: "small".parse().unwrap(), size_bytes: None };
    let job = test.engine.import_image(&origin, request).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let image = test.engine.board().images().get(&"small".parse().unwrap()).unwrap();
    std::fs::remove_dir_all(&image.path).unwrap();

    let name = test.create("web", |spec| spec.image = Some(image.name.clone())).await.unwrap();
    let start = |test: TestEngine| async move {
        let job = test.engine.start_vm(&TestEngine::origin(), &"web".parse().unwrap()).await.unwrap();
        let (_, text) = test.job(job).await.error.unwrap();
        let (_, why) = test.engine.board().workspaces().get(&"web".parse().unwrap()).unwrap().failure.clone().unwrap();
        assert!(text.contains(&why) && why.contains("small"), "{text}: {why}");
        test
    };
    let test = start(test).await;
    let test = start(test.restart().await).await;
    assert_eq!(test.state(&name), VmState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_disks_say_who_has_them() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let root = test.folder.path().canonicalize().unwrap().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    let request = ImportImage { path: root, name: "small".parse().unwrap(), size_bytes: None };
    let job = test.engine.import_image(&origin, request).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let name = test.create("web", |spec| spec.image = Some("small".parse().unwrap())).await.unwrap();
    let board = test.engine.board().clone();
    let mut image = board.images().watch(&"small".parse().unwrap()).unwrap();
    let used = image.wait_for(|image| image.used_by == [name.clone()]);
    tokio::time::timeout(PATIENCE, used).await.unwrap().unwrap();
    let mut disk = board.workspaces().watch(&name).unwrap();
    let attached = disk.wait_for(|disk| disk.state == WorkspaceState::Attached && disk.vm.as_ref() == Some(&name));
    tokio::time::timeout(PATIENCE, attached).await.unwrap().unwrap();

    let job = test.engine.remove_vm(&origin, &name, RemoveOptions::default()).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let disk = board.workspaces().get(&name).unwrap();
    assert_eq!((disk.state, &disk.vm), (WorkspaceState::Ready, &None));
    let job = test.engine.remove_workspace(&origin, &name).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let unused = image.wait_for(|image| image.used_by.is_empty());
    tokio::time::timeout(PATIENCE, unused).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_that_is_used_stays_and_a_default_has_a_successor() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let Some(_turn) = test.import_guest().await else { return };
    let path = GuestParts::find().unwrap().kernel;
    let newer =
        ImportAsset { kind: AssetKind::Kernel, path, version: Some("newer".to_owned()), digest: None, default: true };
    let again = newer.clone();
    let job = test.engine.import_asset(&origin, newer).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let [kernel, initrd, newer] = ["kernel-test", "initrd-test", "kernel-newer"].map(|name| name.parse().unwrap());
    // The same once more is no other one, be its digest named or not.
    let digest = test.engine.board().assets().get(&newer).unwrap().digest.clone();
    for digest in [None, Some(digest)] {
        let job = test.engine.import_asset(&origin, ImportAsset { digest, ..again.clone() }).await.unwrap();
        assert_eq!(test.job(job).await.state, JobState::Done);
    }
    let wrong = ImportAsset { digest: Some("0".repeat(64)), ..again };
    let job = test.engine.import_asset(&origin, wrong).await.unwrap();
    assert_eq!(test.job(job).await.error.unwrap().0, ErrorKind::IntegrityFailed);
    let path = GuestParts::find().unwrap().initrd;
    let nameless = ImportAsset { kind: AssetKind::Initrd, path, version: None, digest: None, default: false };
    // As nothing else says which version it is, and none that is there has one like it.
    let changed = test.folder.path().join("initrd");
    std::fs::write(&changed, [std::fs::read(&nameless.path).unwrap(), vec![0; 512]].concat()).unwrap();
    let job = test.engine.import_asset(&origin, ImportAsset { path: changed, ..nameless }).await.unwrap();
    assert_eq!(test.job(job).await.error.unwrap().0, ErrorKind::InvalidArgs);
    let kept =
        nexus_tests::entries(test.engine.board().assets().get(&kernel).unwrap().path.ancestors().nth(2).unwrap());
    assert_eq!(kept.len(), 3, "what was imported for nothing is gone");
    let names = |spec: &mut VmSpec| {
        spec.vmm = VmmChoice::Qemu;
        spec.image = Some("guest".parse().unwrap());
        spec.kernel = Some("kernel-test".parse().unwrap());
    };
    let vm = test.create("web", names).await.unwrap();
    let board = test.engine.board().clone();
    // With its kernel it gets the initrd of that version.
    for asset in [&kernel, &initrd] {
        let mut picture = board.assets().watch(asset).unwrap();
        let used = picture.wait_for(|asset| asset.used_by == [vm.clone()]);
        tokio::time::timeout(Duration::from_secs(60), used).await.unwrap().unwrap();
        let refused = test.engine.remove_asset(&origin, asset).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InUse, "{}", refused.text());
    }
    let job = test.engine.remove_asset(&origin, &newer).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    assert!(board.assets().get(&kernel).unwrap().default);
    assert_eq!(board.manager().borrow().default_kernel, Some(kernel.clone()));

    let all = RemoveOptions { remove_workspaces: true, ..RemoveOptions::default() };
    let job = test.engine.remove_vm(&origin, &vm, all).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
    let mut picture = board.assets().watch(&kernel).unwrap();
    let unused = picture.wait_for(|asset| asset.used_by.is_empty());
    tokio::time::timeout(Duration::from_secs(60), unused).await.unwrap().unwrap();
    let job = test.engine.remove_asset(&origin, &kernel).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_wants_no_restart_calls_off_the_one_that_is_waited_for() {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let test = test.restart_with_failures().await;
    strike(vm.leader, Signal::SIGKILL);
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Crashed).await;
    let mut machine = test.engine.board().actors().watch(&"root/vms/web/machine".to_owned()).unwrap();
    let waits = machine.wait_for(|status| !status.next_restart_at.is_never());
    tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap();
    let setting = VmSetting::RestartPolicy(RestartPolicy::No);
    test.engine.set_vm(&TestEngine::origin(), &name, setting).await.unwrap();
    let called_off = machine.wait_for(|status| status.next_restart_at.is_never());
    tokio::time::timeout(PATIENCE, called_off).await.unwrap().unwrap();
    assert_eq!(test.state(&name), VmState::Crashed);
    // Nor does another daemon start it.
    let test = test.restart().await;
    assert_eq!(test.state(&name), VmState::Crashed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_joins_another_makes_it_shorter_and_ends_a_restart() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    // Its agent can't answer, so each stop takes all of its time.
    strike(vm.leader, Signal::SIGSTOP);
    let long = StopOptions { timeout: Some(Duration::from_secs(3600)) };
    let restart = test.engine.restart_vm(&origin, &name, long).await.unwrap();
    test.wait(&name, |vm| vm.lifecycle.state() == VmState::Stopping).await;
    let short = StopOptions { timeout: Some(Duration::from_millis(10)) };
    let stop = test.engine.stop_vm(&origin, &name, short).await.unwrap();
    assert_eq!(test.job(stop).await.state, JobState::Done);
    assert_eq!(test.job(restart).await.state, JobState::Cancelled);
    let stopped = test.vm(&name);
    assert_eq!((stopped.lifecycle.state(), stopped.lifecycle.reason()), (VmState::Stopped, Reason::Killed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_is_asked_nothing() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let name = test.create("web", |_| ()).await.unwrap();
    test.start_vm(&name).await;
    test.engine.pause_vm(&origin, &name).await.unwrap();
    let error = test.engine.guest_run(&origin, &name, shell("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GuestUnavailable);
    assert!(error.text().contains("resume it first"), "{}", error.text());
    test.engine.resume_vm(&origin, &name).await.unwrap();
    assert_eq!(test.engine.guest_run(&origin, &name, shell("true")).await.unwrap().status, ExitStatus::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_command_is_told_that_its_vm_ended() {
    let test = TestEngine::start().await;
    let origin = TestEngine::origin();
    let name = test.create("web", |_| ()).await.unwrap();
    for (force, text) in [(false, "the VM is stopped"), (true, "web")] {
        test.start_vm(&name).await;
        let streams = test.engine.guest_exec(&origin, &name, shell("sleep 3600")).await.unwrap();
        let (engine, vm, exec) = (test.engine.clone(), name.clone(), streams.exec);
        let waiting = tokio::spawn(async move { engine.guest_wait_exec(&vm, exec).await });
        if force {
            let force = RemoveOptions { force: true, ..RemoveOptions::default() };
            test.engine.remove_vm(&origin, &name, force).await.unwrap();
        } else {
            test.engine.kill_vm(&origin, &name).await.unwrap();
        }
        let error = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
        assert!(error.text().contains(text), "{}", error.text());
    }
}
