//! nexusd dies at one place after the other of what it does, as of `kill -9`, and the next one finishes it or undoes it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nexus_dbus::client::{Interfaces, Options, objects};
use nexus_tests::{BreakableDaemon, PATIENCE, Signals, TestDaemon, VmPath};

/// Before the intent is stored, nothing was asked for.
const INTENT: &str = "machine.before-store";
/// Where a start comes by once it is wanted.
const START: [&str; 11] = [
    "machine.after-store",
    "start.folders",
    "start.console",
    "start.token",
    "start.prepared",
    "unit.listening",
    "unit.called",
    "unit.answered",
    "start.unit",
    "start.booted",
    "1*off->machine.after-store",
];
/// Where a stop comes by whose guest does as it is asked.
const STOP: [&str; 5] =
    ["machine.after-store", "stop.before-guest", "clear.killed", "unit.forgotten", "clear.collected"];
/// Where a kill comes by.
const KILL: [&str; 4] = ["machine.after-store", "stop.before-kill", "unit.killed", "stop.killed"];
/// Where a pause comes by.
const PAUSE: [&str; 1] = ["pause.frozen"];
/// Where the creation of a VM with a disk of its own comes by.
const CREATE: [&str; 6] = [
    "create.stored",
    "create.before-actor",
    "draft.created",
    "draft.before-rename",
    "draft.renamed",
    "workspace.copied",
];
/// Where the removal of such a VM comes by.
const REMOVE: [&str; 5] = ["remove.retired", "remove.folders", "remove.stored", "remove.disk", "workspace.removed"];
/// Where the import of an image comes by.
const IMPORT: [&str; 3] = ["draft.created", "draft.before-rename", "draft.renamed"];

/// The failpoint that ends nexusd there, or at a later time that it comes by.
fn ends_at(place: &str) -> String {
    match place.split_once("->") {
        Some((before, name)) => format!("{name}={before}->1*return\n"),
        None => format!("{place}=1*return\n"),
    }
}

/// Waits until all objects are as wanted.
async fn settled(daemon: &TestDaemon, wanted: impl Fn(&Interfaces) -> bool) {
    let mut signals = Signals::of(&daemon.client).await;
    while !objects(&daemon.client).await.unwrap().values().all(&wanted) {
        signals.next().await;
    }
}

/// Waits for what nobody tells of: files that go, and processes that end.
async fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A nexusd that is cut off again and again, with a VM.
struct Victim {
    nexus: BreakableDaemon,
    vm: VmPath,
}

impl Victim {
    async fn start() -> Self {
        let nexus = BreakableDaemon::start().await;
        let vm = nexus.create("web", []).await;
        Self { nexus, vm }
    }

    /// Has nexusd die at that place of what `ask` asks for, and starts the next one.
    async fn cut_off(mut self, failpoint: &str, ask: impl AsyncFnOnce(&BreakableDaemon, &VmPath)) -> Self {
        self.nexus.set(failpoint).await;
        ask(&self.nexus, &self.vm).await;
        assert_eq!(self.nexus.broken().await, None, "{failpoint} was to abort it\n{}", self.nexus.log());
        Self { nexus: self.nexus.next().await, vm: self.vm }
    }

    /// The VM runs, and no more than once.
    async fn runs(&self, place: &str) {
        let vm = self.nexus.wait(&self.vm, |vm| vm.state == "running" && vm.guest_ready).await;
        assert_eq!(self.nexus.shell(&self.vm, "echo well").await, (0, "well\n".to_owned()), "{place}");
        let agents = || {
            let line = |pid: &i32| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"guest-agent\n");
            self.nexus.home.processes().into_iter().filter(line).collect::<Vec<_>>()
        };
        let leader = vec![i32::try_from(vm.leader).unwrap()];
        until(&format!("{place}: {:?} run and not {leader:?} alone", agents()), || agents() == leader).await;
    }

    /// The VM does not run, and nothing of a run is left.
    async fn rests(&self, place: &str) {
        let vm = self.nexus.read(&self.vm).await;
        assert!(["created", "stopped"].contains(&vm.state.as_str()), "{place}: {}", vm.state);
        assert_eq!(vm.leader, 0, "{place}");
        let home = &self.nexus.home;
        until(&format!("{place}: {:?} run", home.processes()), || home.processes().is_empty()).await;
    }

    async fn kill(&self) {
        self.nexus.vm(&self.vm).await.kill().await.unwrap();
    }
}

// Whoever asks may have no answer: that is what is tried.

async fn start(nexus: &BreakableDaemon, vm: &VmPath) {
    let _ = nexus.vm(vm).await.start(Options::new()).await;
}

async fn stop(nexus: &BreakableDaemon, vm: &VmPath) {
    let _ = nexus.vm(vm).await.stop(Options::new()).await;
}

async fn kill(nexus: &BreakableDaemon, vm: &VmPath) {
    let _ = nexus.vm(vm).await.kill().await;
}

#[tokio::test]
async fn a_start_is_made_once_it_is_wanted() {
    let mut victim = Victim::start().await.cut_off(&ends_at(INTENT), start).await;
    victim.rests(INTENT).await;
    for place in START {
        victim = victim.cut_off(&ends_at(place), start).await;
        victim.runs(place).await;
        victim.kill().await;
        victim.rests(place).await;
    }
}

#[tokio::test]
async fn a_start_is_made_or_was_not_asked_for_whatever_of_it_is_stored() {
    let mut victim = Victim::start().await;
    for place in ["store.before-commit", "store.after-commit"] {
        for writes in 0..6 {
            let failpoint = format!("{place}={writes}*off->1*return\n");
            victim = victim.cut_off(&failpoint, start).await;
            match victim.nexus.read(&victim.vm).await.state.as_str() {
                "created" | "stopped" => victim.rests(&failpoint).await,
                _ => victim.runs(&failpoint).await,
            }
            victim.kill().await;
        }
    }
}

#[tokio::test]
async fn a_stop_is_finished_once_it_is_wanted() {
    let mut victim = Victim::start().await;
    victim.nexus.start_vm(&victim.vm).await;
    victim = victim.cut_off(&ends_at(INTENT), stop).await;
    victim.runs(INTENT).await;
    for (places, ask) in [(&STOP[..], true), (&KILL, false)] {
        for place in places {
            let failpoint = ends_at(place);
            victim = if ask { victim.cut_off(&failpoint, stop).await } else { victim.cut_off(&failpoint, kill).await };
            victim.nexus.wait(&victim.vm, |vm| vm.state == "stopped").await;
            victim.rests(place).await;
            victim.nexus.start_vm(&victim.vm).await;
        }
    }
}

/// Its commands may stand still by then: whoever adopts it lets them go on.
#[tokio::test]
async fn a_vm_that_was_about_to_be_paused_runs() {
    let mut victim = Victim::start().await;
    victim.nexus.start_vm(&victim.vm).await;
    for place in PAUSE {
        let pause = async |nexus: &BreakableDaemon, vm: &VmPath| drop(nexus.vm(vm).await.pause().await);
        victim = victim.cut_off(&ends_at(place), pause).await;
        victim.runs(place).await;
    }
}

/// An image to make disks of, and the folder it was made of.
async fn import(nexus: &BreakableDaemon, name: &str) -> Result<PathBuf, nexus_dbus::Error> {
    let folder = nexus.home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    let job = nexus.manager().await.import_image(folder.to_str().unwrap(), name, Options::new()).await?;
    nexus.done(&job).await.map(|()| folder)
}

async fn create(nexus: &BreakableDaemon, name: &str) -> Result<VmPath, nexus_dbus::Error> {
    nexus.manager().await.create_vm(name, nexus_tests::process([("image", "tiny".into())])).await
}

#[tokio::test]
async fn a_vm_is_created_whole_or_not_at_all() {
    let mut victim = Victim::start().await;
    import(&victim.nexus, "tiny").await.unwrap();
    let before = victim.nexus.home.things();
    for place in CREATE {
        let ask = async |nexus: &BreakableDaemon, _: &VmPath| drop(create(nexus, "new").await);
        victim = victim.cut_off(&ends_at(place), ask).await;
        // It is stored before anything is done, so it is there, and its disk is made.
        let vm = victim.nexus.manager().await.get_vm("new").await.unwrap();
        let made = |object: &Interfaces| object.workspace.as_ref().is_none_or(|disk| disk.state == "attached");
        settled(&victim.nexus, made).await;
        victim.nexus.start_vm(&vm).await;
        let all = Options::from([("force", true.into()), ("remove-workspaces", true.into())]);
        let removal = victim.nexus.vm(&vm).await.remove(all).await.unwrap();
        victim.nexus.done(&removal).await.unwrap();
        let home = &victim.nexus.home;
        until(&format!("{place}: {:?} is left", home.things()), || home.things() == before).await;
    }
}

#[tokio::test]
async fn a_removal_is_finished_once_it_is_wanted() {
    let mut victim = Victim::start().await;
    import(&victim.nexus, "tiny").await.unwrap();
    let before = victim.nexus.home.things();
    for place in REMOVE {
        let vm = create(&victim.nexus, "old").await.unwrap();
        victim.nexus.start_vm(&vm).await;
        let ask = async |nexus: &BreakableDaemon, _: &VmPath| {
            let all = Options::from([("force", true.into()), ("remove-workspaces", true.into())]);
            drop(nexus.vm(&vm).await.remove(all).await);
        };
        victim = victim.cut_off(&ends_at(place), ask).await;
        let gone =
            |object: &Interfaces| object.vm.as_ref().is_none_or(|vm| vm.name != "old") && object.workspace.is_none();
        settled(&victim.nexus, gone).await;
        let home = &victim.nexus.home;
        until(&format!("{place}: {:?} is left", home.things()), || home.things() == before).await;
        victim.rests(place).await;
    }
}

#[tokio::test]
async fn an_import_is_whole_or_undone() {
    let mut victim = Victim::start().await;
    let before = victim.nexus.home.things();
    for place in IMPORT {
        let ask = async |nexus: &BreakableDaemon, _: &VmPath| drop(import(nexus, "tiny").await);
        victim = victim.cut_off(&ends_at(place), ask).await;
        assert!(victim.nexus.manager().await.get_image("tiny").await.is_err(), "{place}");
        let home = &victim.nexus.home;
        until(&format!("{place}: {:?} is left", home.things()), || home.things() == before).await;
    }
    import(&victim.nexus, "tiny").await.unwrap();
}

/// The names of all failpoints in the sources below a folder.
fn failpoints(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            failpoints(&entry.path(), found);
        } else {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.extend(
                text.split("failpoint(\"").skip(1).filter_map(|call| call.split('"').next()).map(str::to_owned),
            );
        }
    }
}

#[test]
fn no_place_is_left_out() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = BTreeSet::new();
    for folder in ["actors/src", "host/src"] {
        failpoints(&repository.join(folder), &mut all);
    }
    // An actor's is a panic, which tests/faults.rs has; orphans are tests/orphans.rs'.
    all.retain(|name| !name.starts_with("actor.") && !name.starts_with("orphan."));
    let tried = [&[INTENT][..], &START, &STOP, &KILL, &PAUSE, &CREATE, &REMOVE, &IMPORT].concat();
    let tried: BTreeSet<String> = tried.into_iter().filter(|place| !place.contains("->")).map(str::to_owned).collect();
    assert_eq!(all, tried);
}
