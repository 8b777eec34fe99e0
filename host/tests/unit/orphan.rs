//! Units and processes that somebody left: they are found, and stay while they run.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use nexus_host::{
    process::identify,
    resource::{Ground, Owner, Place, Resource, ResourceError, Standing},
    storage::DISK,
    unit::{KeeperKind, UnitError},
};
use nexus_model::{InstanceId, ResourceKind};
use nix::sys::signal::Signal;

use crate::scene::{SOON, Scene, gone, signal};

crate::both_ways!(
    a_unit_that_was_left_runs_until_it_is_ended,
    a_unit_that_has_ended_is_left,
    what_is_another_s_is_not_listed,
    a_keeper_without_a_record_is_ended,
);

fn ground(scene: &Scene, instance: InstanceId) -> Ground {
    let below = |name: &str| scene.folder().join(name);
    Ground {
        instance,
        state: scene.folder().to_owned(),
        files: Vec::new(),
        roots: vec![scene.folder().to_owned()],
        runtimes: scene.folder().to_owned(),
        consoles: below("consoles"),
        workspaces: below("workspaces"),
        images: below("images"),
        assets: below("assets"),
        devices: PathBuf::from("/nonexistent"),
    }
}

async fn running(scene: &Scene, ground: &Ground) -> Vec<Resource> {
    let units = scene.keeper.units(ground.instance).await.unwrap();
    let mut found = ground.resources(&units).unwrap();
    found.retain(|found| matches!(found.kind, ResourceKind::Unit | ResourceKind::Process));
    found
}

fn folders(ground: &Ground) -> Vec<Resource> {
    let mut found = ground.resources(&[]).unwrap();
    found.retain(|found| matches!(found.place, Place::Path(..)) && found.kind != ResourceKind::File);
    found
}

fn kind_of_what_runs(scene: &Scene) -> ResourceKind {
    match scene.keeper.kind() {
        KeeperKind::Systemd => ResourceKind::Unit,
        KeeperKind::Shim => ResourceKind::Process,
    }
}

/// It was killed, after a while and with all of its folders.
async fn a_unit_that_was_left_runs_until_it_is_ended(scene: Scene) {
    let ground = ground(&scene, scene.instance);
    ground.claim().unwrap();
    let console = ground.consoles.join("0000000000000000");
    let disk = ground.workspaces.join("@web");
    for (folder, file) in [(&console, "console.log"), (&disk, DISK)] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(file), "x").unwrap();
    }
    let mut unit = scene.shell(&format!("exec sleep 1000 < {}", disk.join(DISK).display()));
    unit.spec.launch.sandbox.as_mut().unwrap().read_write.push(disk.join(DISK));
    let started = scene.start(&unit).await;
    let [left] = running(&scene, &ground).await.try_into().unwrap();
    let by = kind_of_what_runs(&scene);
    assert_eq!((left.kind, &left.owner, &left.standing), (by, &Owner::Vm(0.into()), &Standing::Runs { by }));
    assert_eq!(matches!(&left.place, Place::Unit(name) if name == unit.name()), by == ResourceKind::Unit);
    assert!(left.is_there());

    let units = scene.keeper.units(ground.instance).await.unwrap();
    let found = ground.resources(&units).unwrap();
    let of = |kind| found.iter().find(|found| found.kind == kind).unwrap();
    for kind in [ResourceKind::Runtime, ResourceKind::Console] {
        assert_eq!(of(kind).standing, Standing::Runs { by });
        assert!(ground.erase(of(kind)).unwrap_err().to_string().contains("something of its VM runs"));
    }
    // It ran by the time at which it was to go.
    let runtime = Resource { standing: Standing::Ours, ..of(ResourceKind::Runtime).clone() };
    assert!(matches!(ground.end(&scene.keeper, &runtime).await, Err(ResourceError::Unit(UnitError::Running(_)))));
    ground.erase(&runtime).unwrap_err();
    let error = ground.erase(of(ResourceKind::Workspace)).unwrap_err().to_string();
    assert!(error.contains("has its disk open"), "{error}");
    assert!(identify(started.leader.pid).unwrap().is_some_and(|found| found == started.leader));

    ground.end(&scene.keeper, &left).await.unwrap();
    gone(&started.leader).await;
    gone(&started.keeper).await;
    assert_eq!(running(&scene, &ground).await, []);
    scene.assert_nothing_left(&unit).await;
    // Nothing to do is success.
    ground.end(&scene.keeper, &left).await.unwrap();

    for folder in folders(&ground) {
        let ours = folder.kind != ResourceKind::Workspace;
        assert_eq!(folder.standing, if ours { Standing::Ours } else { Standing::Data }, "{folder:?}");
        ground.end(&scene.keeper, &folder).await.unwrap();
        ground.erase(&folder).unwrap();
    }
    for folder in [unit.runtime_dir(), &console, &disk] {
        assert!(!folder.exists(), "{}", folder.display());
    }
}

/// Nothing of it runs, and a manager has it still.
async fn a_unit_that_has_ended_is_left(scene: Scene) {
    let ground = ground(&scene, scene.instance);
    ground.claim().unwrap();
    for end in ["exit 0", "exit 3"] {
        let unit = scene.shell(end);
        let started = scene.start(&unit).await;
        scene.end(&unit, &started).await;
        gone(&started.keeper).await;
        let found = by_manager(&scene, &ground, ResourceKind::Unit).await;
        // One that is elsewhere is another Nexus', though nothing of it runs that would say so.
        let mut copy = ground.clone();
        copy.runtimes = scene.folder().join("elsewhere");
        for listed in by_manager(&scene, &copy, ResourceKind::Unit).await {
            assert!(matches!(&listed.standing, Standing::Doubtful(why) if why.contains("not this Nexus' folder")));
            copy.end(&scene.keeper, &listed).await.unwrap_err();
        }
        let [folder] = by_manager(&scene, &ground, ResourceKind::Runtime).await.try_into().unwrap();
        assert_eq!(found.len(), usize::from(scene.manager().is_some()));
        for left in found.into_iter().chain([folder]) {
            assert_eq!(left.standing, Standing::Ours);
            ground.end(&scene.keeper, &left).await.unwrap();
            ground.erase(&left).unwrap();
        }
        assert_eq!(running(&scene, &ground).await, []);
        assert!(!unit.runtime_dir().exists());
    }
}

async fn by_manager(scene: &Scene, ground: &Ground, kind: ResourceKind) -> Vec<Resource> {
    let end = Instant::now() + SOON;
    loop {
        let units = scene.keeper.units(ground.instance).await.unwrap();
        // The manager is told of the end of a process a moment after it.
        if units.iter().all(|unit| !unit.runs) {
            let mut found = ground.resources(&units).unwrap();
            found.retain(|found| found.kind == kind);
            return found;
        }
        assert!(Instant::now() < end, "{units:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whoever took the record away, the keeper keeps its programs.
async fn a_keeper_without_a_record_is_ended(scene: Scene) {
    let ground = ground(&scene, scene.instance);
    ground.claim().unwrap();
    let unit = scene.shell("exec sleep 1000");
    let started = scene.start(&unit).await;
    std::fs::remove_dir_all(unit.runtime_dir()).unwrap();
    let [left] = running(&scene, &ground).await.try_into().unwrap();
    assert_eq!(left.standing, Standing::Runs { by: kind_of_what_runs(&scene) });
    ground.end(&scene.keeper, &left).await.unwrap();
    gone(&started.leader).await;
    gone(&started.keeper).await;
    assert_eq!(running(&scene, &ground).await, []);
}

async fn what_is_another_s_is_not_listed(scene: Scene) {
    let unit = scene.shell("exec sleep 1000");
    let started = scene.start(&unit).await;
    let other = ground(&scene, InstanceId::random().unwrap());
    assert_eq!(running(&scene, &other).await, []);

    // The same id, as of a copy of the state folder, and other folders.
    let mut copy = ground(&scene, scene.instance);
    copy.runtimes = scene.folder().join("elsewhere");
    let [listed] = running(&scene, &copy).await.try_into().unwrap();
    assert!(matches!(&listed.standing, Standing::Doubtful(why) if why.contains("not this Nexus' folder")));
    copy.end(&scene.keeper, &listed).await.unwrap_err();
    assert!(identify(started.leader.pid).unwrap().is_some_and(|found| found == started.leader));

    // Nor is it surely this one's while nothing says whose the folders are.
    let unclaimed = ground(&scene, scene.instance);
    let [listed] = running(&scene, &unclaimed).await.try_into().unwrap();
    assert!(matches!(&listed.standing, Standing::Doubtful(why) if why.contains("does not say")), "{listed:?}");
    unclaimed.end(&scene.keeper, &listed).await.unwrap_err();
    assert!(identify(started.leader.pid).unwrap().is_some_and(|found| found == started.leader));
    signal(&started.leader, Signal::SIGKILL);
    scene.end(&unit, &started).await;
    scene.keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap();
}

/// Names that Nexus does not give are of no VM, whoever made them.
#[tokio::test]
async fn a_unit_that_only_looks_like_one_stays() {
    let Some(scene) = Scene::systemd().await else { return };
    let ground = ground(&scene, scene.instance);
    ground.claim().unwrap();
    let unit = format!("nexus-{}-backup", scene.instance);
    scene.manager().unwrap().start_service(&unit, &["sleep", "1000"]).await;
    let [listed] = running(&scene, &ground).await.try_into().unwrap();
    assert!(matches!(&listed.standing, Standing::Doubtful(why) if why.contains("no VM's id")), "{listed:?}");
    ground.end(&scene.keeper, &listed).await.unwrap_err();
    assert_eq!(scene.keeper.list(scene.instance).await.unwrap(), [unit]);
}

/// A process can call itself anything.
#[tokio::test]
async fn a_program_that_only_calls_itself_a_keeper_stays() {
    use std::os::unix::process::CommandExt as _;

    let scene = Scene::shim().await;
    let ground = ground(&scene, scene.instance);
    let name = format!("nexus-{}-{:016x}", scene.instance, 7);
    let mut cat = std::process::Command::new("/bin/cat");
    cat.arg0("nexus-shim").args([name.as_str(), "-"]).current_dir(scene.folder()).stdin(std::process::Stdio::piped());
    std::fs::File::create(scene.folder().join(&name)).unwrap();
    let mut child = cat.spawn().unwrap();
    // The kernel shows the arguments of a program a moment after it was executed.
    let end = Instant::now() + SOON;
    let found = loop {
        let mut found = ground.resources(&[]).unwrap();
        found.retain(|found| found.kind == ResourceKind::Process);
        if !found.is_empty() || Instant::now() > end {
            break found;
        }
    };
    let standing = found.first().map(|found| found.standing.clone());
    let refused = match found.first() {
        Some(found) => ground.end(&scene.keeper, found).await.is_err(),
        None => false,
    };
    let lives = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(&standing, Some(Standing::Doubtful(why)) if why.contains("another one")), "{standing:?}");
    assert!(refused && lives);
}
