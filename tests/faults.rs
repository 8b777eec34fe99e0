//! Every kind of actor panics for once, in a real nexusd, and what docs/actors.md says of it follows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, Options, Row, SupervisorProperties, VmProperties, objects},
};
use nexus_host::storage::DISK;
use nexus_tests::{BreakableDaemon, PATIENCE, Signals, TestDaemon, VmPath};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rusqlite::Connection as Database;
use zbus::{ObjectPath, OwnedFd, OwnedObjectPath, proxy::CacheProperties};

const WEB: &str = "vm/web";
const CONNECTIONS: &str = "supervisor/vms_2fweb_2fconnections";
const CONNECTION: &str = "vm/web/connection/1";
/// That, and those that are there before anybody wants them, have this and a number.
const EACH_CONNECTION: &str = "vm/web/connection/";

fn strike(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Whom of the root's children the actor on that object belongs to.
fn branch(object: &str) -> &str {
    match object.split('/').collect::<Vec<_>>().as_slice() {
        ["supervisor", name] => name.split("_2f").next().unwrap(),
        ["vm", ..] => "vms",
        _ => "workspaces",
    }
}

/// A nexusd with a VM that runs, as they were before something is broken.
struct World {
    nexus: BreakableDaemon,
    vm: VmPath,
    before: VmProperties,
    generations: BTreeMap<String, u64>,
    /// The root's children, as they come one after the other.
    order: Vec<OwnedObjectPath>,
}

impl World {
    async fn start() -> Self {
        let nexus = BreakableDaemon::start().await;
        let vm = nexus.run("web", []).await;
        let before = nexus.read(&vm).await;
        let generations = generations(&nexus).await;
        let root = ObjectPath::try_from(format!("{ROOT}/supervisor/root")).unwrap();
        let order = SupervisorProperties::read(&nexus.client, &root).await.unwrap().children;
        Self { nexus, vm, before, generations, order }
    }

    /// The actor on that object has had its one fault, because of `reason`, and it and exactly these other ones were
    /// started again.
    async fn restarted(&self, object: &str, reason: &str, others: impl Fn(&str) -> bool) {
        let path = format!("{ROOT}/{object}");
        let status = self.nexus.wait_actor(&path, |actor| actor.fault_count == 1 && actor.health == "ok").await;
        assert!(status.last_fault_reason.contains(reason), "{status:?}");
        assert_eq!(status.restart_count, 1);
        for (other, before) in &self.generations {
            let path = format!("{ROOT}/{other}");
            let expected = before + u64::from(other == object || others(other));
            let now = self.nexus.wait_actor(&path, |actor| actor.health == "ok" && actor.generation >= expected).await;
            assert_eq!(now.generation, expected, "{other}");
            assert_eq!(now.fault_count, u64::from(other == object), "{other}");
        }
    }

    /// As [`restarted`](Self::restarted), where the others are those below it and those that come after it in the tree.
    async fn restarted_with_the_later(&self, object: &str, reason: &str) {
        let place = |object: &str| {
            let path = format!("{ROOT}/supervisor/{}", branch(object));
            self.order.iter().position(|child| child.as_str() == path)
        };
        self.restarted(object, reason, |other| place(other) >= place(object)).await;
    }

    /// The VM has noticed nothing.
    async fn unharmed(&self) {
        let after = self.nexus.wait(&self.vm, |vm| vm.guest_ready).await;
        let what = |vm: &VmProperties| (vm.leader, vm.state.clone(), vm.started_at, vm.state_changed_at);
        assert_eq!(what(&after), what(&self.before));
        assert_eq!(self.nexus.shell(&self.vm, "echo well").await, (0, "well\n".to_owned()));
    }
}

async fn generations(daemon: &TestDaemon) -> BTreeMap<String, u64> {
    let all = objects(&daemon.client).await.unwrap();
    let actor = |(path, object): (OwnedObjectPath, nexus_dbus::client::Interfaces)| {
        Some((path.as_str().strip_prefix(ROOT)?[1..].to_owned(), object.supervised?.generation))
    };
    all.into_iter().filter_map(actor).filter(|(object, _)| object != "supervisor/root").collect()
}

/// A folder that an image can be made of.
fn root_file_system(daemon: &TestDaemon) -> PathBuf {
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/os-release"), "ID=tiny\nVERSION_ID=1\n").unwrap();
    folder
}

/// A cpio archive of nothing: its trailer, see cpio(5).
fn empty_archive() -> Vec<u8> {
    let mut archive = b"070701".to_vec();
    for field in 0..13 {
        // Of links there is one, and the name has eleven bytes.
        archive.extend(
            format!(
                "{:08x}",
                match field {
                    4 => 1,
                    11 => 11,
                    _ => 0,
                }
            )
            .bytes(),
        );
    }
    archive.extend(b"TRAILER!!!\0");
    archive.resize(512, 0);
    archive
}

async fn import(daemon: &TestDaemon, path: &Path) -> Result<(), nexus_dbus::Error> {
    let job = daemon.manager().await.import_image(path.to_str().unwrap(), "tiny", Options::new()).await?;
    daemon.done(&job).await
}

async fn make_workspace(daemon: &TestDaemon, name: &str) -> Result<(), nexus_dbus::Error> {
    let base = Options::from([("base", "tiny".into())]);
    let job = daemon.manager().await.create_workspace(name, base).await?;
    daemon.done(&job).await
}

#[tokio::test]
async fn the_store_takes_everything_along_and_loses_no_transaction() {
    let world = World::start().await;
    world.nexus.vm(&world.vm).await.set_label("kept").await.unwrap();
    world.nexus.set("actor.store=1*panic\n").await;
    // What it is asked first is what it panics over; with it goes the bus, and so the answer.
    assert!(world.nexus.vm(&world.vm).await.get_history(0).await.is_err());
    world.restarted_with_the_later("supervisor/store", "actor.store").await;
    world.unharmed().await;
    assert_eq!(world.nexus.read(&world.vm).await.label, "kept");
}

#[tokio::test]
async fn a_store_that_panics_too_often_ends_the_daemon_and_no_vm() {
    let mut world = World::start().await;
    world.nexus.set("actor.store=panic\n").await;
    // Those that come after it need it to start, so each start of it is its next fault.
    let _ = world.nexus.vm(&world.vm).await.get_history(0).await;
    assert_eq!(world.nexus.broken().await, Some(1));
    let log = world.nexus.log();
    assert!(log.contains("`root/store` had 4 faults within 30 s"), "{log}");
    assert!(is_alive(world.before.leader));
    world.nexus = world.nexus.next().await;
    world.unharmed().await;
}

#[tokio::test]
async fn assets_undo_what_was_not_finished() {
    let world = World::start().await;
    world.nexus.set("actor.assets=1*panic\n").await;
    let archive = world.nexus.home.user().join("initrd");
    fs::write(&archive, empty_archive()).unwrap();
    let import = async || {
        let version = Options::from([("version", "1".into())]);
        let job = world.nexus.manager().await.import_asset("initrd", archive.to_str().unwrap(), version).await?;
        world.nexus.done(&job).await
    };
    assert!(import().await.is_err());
    world.restarted_with_the_later("supervisor/assets", "actor.assets").await;
    world.unharmed().await;
    let assets = world.nexus.home.data().join("assets");
    assert!(nexus_tests::entries(&assets).is_empty(), "something is left in {}", assets.display());
    import().await.unwrap();
}

#[tokio::test]
async fn images_undo_what_was_not_finished() {
    let world = World::start().await;
    let folder = root_file_system(&world.nexus);
    world.nexus.set("actor.images=1*panic\n").await;
    assert!(import(&world.nexus, &folder).await.is_err());
    world.restarted_with_the_later("supervisor/images", "actor.images").await;
    world.unharmed().await;
    let images = world.nexus.home.data().join("images");
    assert!(nexus_tests::entries(&images).is_empty(), "something is left in {}", images.display());
    import(&world.nexus, &folder).await.unwrap();
}

#[tokio::test]
async fn what_an_import_leaves_goes_as_soon_as_it_can() {
    let nexus = BreakableDaemon::start().await;
    let folder = root_file_system(&nexus);
    // The row is there, and the import can't go on.
    nexus.set("actor.images=1*off->1*pause\n").await;
    let job = nexus.manager().await.import_image(folder.to_str().unwrap(), "tiny", Options::new()).await.unwrap();
    let database = Database::open(nexus.home.database()).unwrap();
    let rows = || database.query_row("SELECT count(*) FROM image", [], |row| row.get::<_, u32>(0)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    nexus.set("").await;
    assert!(nexus.done(&job).await.is_err());
    assert_eq!(rows(), 1);
    database.execute_batch("ROLLBACK").unwrap();
    let gone = async {
        // Nobody tells of what was never shown.
        while rows() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    import(&nexus, &folder).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_vmm_is_stored_as_soon_as_it_can() {
    let world = World::start().await;
    let vm = world.nexus.vm(&world.vm).await;
    vm.set_restart_policy("on-failure").await.unwrap();
    let database = Database::open(world.nexus.home.database()).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    strike(world.before.leader, Signal::SIGKILL);
    world.nexus.logged("the end of VM web is stored later", 3).await;
    assert_eq!(world.nexus.read(&world.vm).await.state, "running");
    database.execute_batch("ROLLBACK").unwrap();
    world.nexus.wait(&world.vm, |vm| vm.guest_ready && vm.leader != world.before.leader).await;
    assert_eq!(world.nexus.actor(world.vm.as_str()).await.failure_count, 1);
    // It had no fault.
    assert_eq!(generations(&world.nexus).await, world.generations);
}

#[tokio::test]
async fn a_workspace_goes_on_being_made_and_disturbs_nobody() {
    let mut world = World::start().await;
    import(&world.nexus, &root_file_system(&world.nexus)).await.unwrap();
    make_workspace(&world.nexus, "first").await.unwrap();
    world.generations = generations(&world.nexus).await;
    world.nexus.set("actor.workspace=1*panic\n").await;
    make_workspace(&world.nexus, "second").await.unwrap();
    world.restarted("workspace/second", "actor.workspace", |_| false).await;
    assert!(world.nexus.home.data().join("workspaces/@second").join(DISK).is_file(), "{:?}", world.nexus.home.things());
    world.unharmed().await;
}

#[tokio::test]
async fn a_machine_leaves_its_vm_alone_and_takes_the_connections_along() {
    let world = World::start().await;
    world.nexus.set("actor.machine=1*panic\n").await;
    let refused = world.nexus.vm(&world.vm).await.set_label("new").await.unwrap_err();
    assert!(refused.to_string().contains("restarted meanwhile"), "{refused}");
    world.restarted(WEB, "actor.machine", |other| other == CONNECTIONS || other.starts_with(EACH_CONNECTION)).await;
    world.unharmed().await;
    assert_eq!(world.nexus.read(&world.vm).await.label, "");
    world.nexus.vm(&world.vm).await.set_label("new").await.unwrap();
}

#[tokio::test]
async fn a_stop_that_a_machine_panics_in_is_finished_by_the_next() {
    let world = World::start().await;
    strike(world.before.leader, Signal::SIGSTOP);
    let timeout = Options::from([("timeout-usec", 3_600_000_000_u64.into())]);
    let stop = world.nexus.vm(&world.vm).await.stop(timeout).await.unwrap();
    world.nexus.wait(&world.vm, |vm| vm.state == "stopping").await;
    world.nexus.set("actor.machine=1*panic\n").await;
    assert!(world.nexus.vm(&world.vm).await.set_label("new").await.is_err());
    // Who wanted it is told that it broke off; that it is wanted is stored, and the next one lets the guest hear it.
    let error = world.nexus.done(&stop).await.unwrap_err();
    assert!(error.to_string().contains("restarted meanwhile"), "{error}");
    world.nexus.wait(&world.vm, |vm| vm.state == "stopped").await;
    assert!(!is_alive(world.before.leader));
}

#[tokio::test]
async fn a_start_that_a_machine_panics_in_is_made_by_the_next() {
    let world = World::start().await;
    let other = world.nexus.create("other", []).await;
    // The intent is stored, and nothing is done about it yet.
    world.nexus.set("machine.after-store=1*panic\n").await;
    let job = world.nexus.vm(&other).await.start(Options::new()).await.unwrap();
    assert!(world.nexus.done(&job).await.is_err());
    world.nexus.wait(&other, |vm| vm.guest_ready).await;
    world.unharmed().await;
}

#[tokio::test]
async fn a_machine_that_panics_too_often_leaves_the_vmm_running() {
    let world = World::start().await;
    world.nexus.set("actor.machine=panic\n").await;
    // The connection, which is started again with it, tells each next one something.
    let _ = world.nexus.vm(&world.vm).await.set_label("new").await;
    let path = format!("{ROOT}/{WEB}");
    let status = world.nexus.wait_actor(&path, |actor| actor.health == "unmanaged").await;
    assert_eq!(status.fault_count, 6, "five within the time are answered with a restart: {status:?}");
    assert!(status.next_restart_at > status.last_fault_at, "{status:?}");
    assert!(is_alive(world.before.leader));
    // Its sibling waits, and shows its health; the daemon says that something is amiss.
    world.nexus.wait_actor(&format!("{ROOT}/{CONNECTION}"), |actor| actor.health == "unmanaged").await;
    let mut signals = Signals::of(&world.nexus.client).await;
    while world.nexus.manager().await.state().await.unwrap() != "degraded" {
        signals.next().await;
    }

    world.nexus.set("").await;
    world.nexus.supervised(&world.vm).await.reset_failed().await.unwrap();
    world.nexus.wait_actor(&path, |actor| actor.health == "ok").await;
    world.unharmed().await;
}

#[tokio::test]
async fn a_connection_loses_no_command() {
    let world = World::start().await;
    let guest = world.nexus.guest(&world.vm).await;
    let (id, input, output, _) =
        guest.exec(&["sh", "-c", "read line; echo $line; exit 7"], Options::new()).await.unwrap();
    // The next incarnation panics as it dials.
    world.nexus.set("actor.connection=1*panic\n").await;
    let connection = ObjectPath::try_from(format!("{ROOT}/{CONNECTION}")).unwrap().into();
    world.nexus.supervised(&connection).await.restart_actor(Options::new()).await.unwrap();
    let path = format!("{ROOT}/{CONNECTION}");
    let status = world.nexus.wait_actor(&path, |actor| actor.fault_count == 1 && actor.health == "ok").await;
    assert!(status.last_fault_reason.contains("the task of the connection has ended"), "{status:?}");
    for other in [WEB, CONNECTIONS] {
        assert_eq!(world.nexus.actor(&format!("{ROOT}/{other}")).await.generation, world.generations[other], "{other}");
    }
    world.unharmed().await;
    let wait = guest.wait_exec(id);
    write_line(input, "still here").await;
    assert_eq!(read_all(output).await, "still here\n");
    assert_eq!(tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap(), (7, 0));
}

#[tokio::test]
async fn a_spare_connection_is_nothing_that_anybody_misses() {
    let world = World::start().await;
    let spare = format!("{EACH_CONNECTION}5");
    // The one that looks next is this one.
    for number in 2..=5 {
        let connection =
            ConnectionProxy::builder(&world.nexus.client).path(format!("{ROOT}/{EACH_CONNECTION}{number}"));
        let connection = connection.cache_properties(CacheProperties::No).build().await.unwrap();
        let open = async {
            while connection.state().await.unwrap() != "open" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, open).await.unwrap();
    }
    world.nexus.set("actor.spare=1*panic\n").await;
    // What it kept is this command's, and the next one can't be opened.
    let guest = world.nexus.guest(&world.vm).await;
    let (_, input, output, _) = guest.exec(&["cat"], Options::new()).await.unwrap();
    world.restarted(&spare, "the task of the connection has ended", |_| false).await;
    world.unharmed().await;
    write_line(input, "still here").await;
    assert_eq!(read_all(output).await, "still here\n");
}

#[tokio::test]
async fn the_actor_of_a_stream_loses_nothing_of_it() {
    let world = World::start().await;
    world.nexus.set("actor.stream=1*panic\n").await;
    let guest = world.nexus.guest(&world.vm).await;
    let (_, stream) = guest.open_shell(&["cat"], Options::new()).await.unwrap();
    let path = format!("{ROOT}/vm/web/connection/6");
    let status = world.nexus.wait_actor(&path, |actor| actor.fault_count == 1 && actor.health == "ok").await;
    assert!(status.last_fault_reason.contains("the task of the stream has ended"), "{status:?}");
    for other in [WEB, CONNECTIONS, CONNECTION] {
        assert_eq!(world.nexus.actor(&format!("{ROOT}/{other}")).await.generation, world.generations[other], "{other}");
    }
    world.unharmed().await;
    // A fault of its supervisor brings it back with all the others.
    supervisor_panics(&world, "vm/web/connection/6").await;
    world.nexus.wait_actor(&path, |actor| actor.generation == 3 && actor.health == "ok").await;
    drop(stream);
    let gone = async {
        while world.nexus.shown().await.iter().any(|row| row.contains("connection/6:")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

async fn write_line(stream: OwnedFd, line: &'static str) {
    let write = move || File::from(std::os::fd::OwnedFd::from(stream)).write_all(format!("{line}\n").as_bytes());
    tokio::task::spawn_blocking(write).await.unwrap().unwrap();
}

async fn read_all(stream: OwnedFd) -> String {
    let read = move || {
        let mut text = String::new();
        File::from(std::os::fd::OwnedFd::from(stream)).read_to_string(&mut text).map(|_| text)
    };
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(read)).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn jobs_go_on() {
    let world = World::start().await;
    let deaf = world.nexus.run("deaf", []).await;
    strike(world.nexus.read(&deaf).await.leader, Signal::SIGSTOP);
    let timeout = Options::from([("timeout-usec", 3_600_000_000_u64.into())]);
    let stop = world.nexus.vm(&deaf).await.stop(timeout).await.unwrap();
    world.nexus.wait(&deaf, |vm| vm.state == "stopping").await;
    world.nexus.set("actor.jobs=1*panic\n").await;
    assert!(world.nexus.vm(&world.vm).await.start(Options::new()).await.is_err());
    world.restarted_with_the_later("supervisor/jobs", "actor.jobs").await;
    assert_eq!(world.nexus.job(&stop).await.state().await.unwrap(), "running");
    world.nexus.vm(&deaf).await.kill().await.unwrap();
    world.nexus.done(&stop).await.unwrap();
    world.unharmed().await;
}

#[tokio::test]
async fn the_reaper_takes_nobody_along_but_the_bus() {
    let world = World::start().await;
    world.nexus.set("actor.reaper=1*panic\n").await;
    assert!(world.nexus.manager().await.list_orphans().await.is_err());
    world.restarted_with_the_later("supervisor/reaper", "actor.reaper").await;
    assert!(world.nexus.manager().await.list_orphans().await.unwrap().is_empty());
    world.unharmed().await;
}

/// It said nothing any more until nexusd was started again: its actor waited for the task's message.
#[tokio::test]
async fn the_reaper_s_work_may_panic() {
    let world = World::start().await;
    let manager = world.nexus.manager().await;
    world.nexus.set("orphan.found=1*panic\n").await;
    let error = manager.list_orphans().await.unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    assert!(manager.list_orphans().await.unwrap().is_empty());
    world.unharmed().await;
}

#[tokio::test]
async fn the_bus_shows_all_anew_and_touches_nothing_else() {
    let world = World::start().await;
    let shown = world.nexus.shown().await;
    world.nexus.set("actor.bus=1*panic\n").await;
    // The next incarnation panics before it is on the bus, and nobody is left to answer.
    let bus = ObjectPath::try_from(format!("{ROOT}/supervisor/bus")).unwrap().into();
    let _ = world.nexus.supervised(&bus).await.restart_actor(Options::new()).await;
    let path = format!("{ROOT}/supervisor/bus");
    let status = world.nexus.wait_actor(&path, |actor| actor.fault_count == 1 && actor.health == "ok").await;
    assert!(status.last_fault_reason.contains("the task of the bus has ended"), "{status:?}");
    assert_eq!(world.nexus.shown().await, shown);
    let mut after = generations(&world.nexus).await;
    assert!(after["supervisor/bus"] > world.generations["supervisor/bus"]);
    after.insert("supervisor/bus".to_owned(), world.generations["supervisor/bus"]);
    assert_eq!(after, world.generations);
    world.unharmed().await;
}

/// Has the supervisor of the actor on that object panic, by asking it to restart that.
async fn supervisor_panics(world: &World, of: &str) {
    world.nexus.set("actor.supervisor=1*panic\n").await;
    let object = ObjectPath::try_from(format!("{ROOT}/{of}")).unwrap().into();
    assert!(world.nexus.supervised(&object).await.restart_actor(Options::new()).await.is_err());
}

#[tokio::test]
async fn the_supervisor_of_a_vm_adopts_it_and_disturbs_no_other() {
    let mut world = World::start().await;
    world.nexus.run("other", []).await;
    world.generations = generations(&world.nexus).await;
    supervisor_panics(&world, WEB).await;
    let below = |other: &str| other.starts_with(WEB) || other == CONNECTIONS;
    world.restarted("supervisor/vms_2fweb", "actor.supervisor", below).await;
    world.unharmed().await;
}

#[tokio::test]
async fn the_supervisor_of_connections_dials_again_and_disturbs_nothing_else() {
    let world = World::start().await;
    supervisor_panics(&world, CONNECTION).await;
    world.restarted(CONNECTIONS, "actor.supervisor", |other| other.starts_with(EACH_CONNECTION)).await;
    world.unharmed().await;
}

#[tokio::test]
async fn the_supervisor_of_vms_adopts_them_again() {
    let world = World::start().await;
    supervisor_panics(&world, "supervisor/vms_2fweb").await;
    world.restarted_with_the_later("supervisor/vms", "actor.supervisor").await;
    world.unharmed().await;
}

#[tokio::test]
async fn the_supervisor_of_workspaces_looks_at_them_again() {
    let mut world = World::start().await;
    import(&world.nexus, &root_file_system(&world.nexus)).await.unwrap();
    make_workspace(&world.nexus, "first").await.unwrap();
    world.generations = generations(&world.nexus).await;
    supervisor_panics(&world, "workspace/first").await;
    world.restarted_with_the_later("supervisor/workspaces", "actor.supervisor").await;
    world.unharmed().await;
}

#[tokio::test]
async fn the_root_ends_the_daemon_and_no_vm() {
    let mut world = World::start().await;
    supervisor_panics(&world, "supervisor/jobs").await;
    assert_eq!(world.nexus.broken().await, Some(1));
    let log = world.nexus.log();
    assert!(log.contains("the supervision tree has ended"), "{log}");
    assert!(is_alive(world.before.leader));
    world.nexus = world.nexus.next().await;
    world.unharmed().await;
}

/// Regression: a machine that had something to write down waited for the next store, which waited for the machine's end, and
/// so did each of them in its turn, for 5 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_under_load_is_back_at_once() {
    let world = World::start().await;
    let mut vms = vec![world.vm.clone()];
    for number in 0..6 {
        vms.push(world.nexus.create(&format!("vm-{number}"), []).await);
    }
    // Each machine has more to write down than the one that is cut off.
    let mut clients = tokio::task::JoinSet::new();
    for path in vms.iter().cycle().take(6 * vms.len()) {
        let vm = world.nexus.vm(path).await;
        clients.spawn(async move {
            for round in 0..50 {
                let _ = vm.set_label(&format!("{round}")).await;
            }
        });
    }
    world.nexus.set("actor.store=300*off->1*panic\n").await;
    let path = format!("{ROOT}/supervisor/store");
    world.nexus.wait_actor(&path, |actor| actor.fault_count == 1 && actor.health == "ok").await;
    clients.join_all().await;
    for vm in &vms {
        world.nexus.wait_actor(vm.as_str(), |actor| actor.health == "ok").await;
    }
    let log = world.nexus.log();
    assert!(!log.contains("it did not stop within"), "{log}");
    world.unharmed().await;
}
