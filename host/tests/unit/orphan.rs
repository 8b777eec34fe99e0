//! Units and processes that somebody left: they are found, and go with all that they keep.

use std::{path::PathBuf, time::Instant};

use nexus_host::{
    process::identify,
    resource::{Ground, Owner, Place, Resource, Standing},
    unit::KeeperKind,
};
use nexus_model::{InstanceId, ResourceKind};
use nix::sys::signal::Signal;

use crate::scene::{SOON, Scene, gone, signal};

crate::both_ways!(a_unit_that_was_left_goes, what_is_another_s_is_not_listed, a_keeper_without_a_record_goes);

fn ground(scene: &Scene, instance: InstanceId) -> Ground {
    let below = |name: &str| scene.folder().join(name);
    Ground {
        instance,
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

async fn a_unit_that_was_left_goes(scene: Scene) {
    let ground = ground(&scene, scene.instance);
    ground.claim().unwrap();
    let unit = scene.shell("exec sleep 1000");
    let started = scene.start(&unit).await;
    let [left] = running(&scene, &ground).await.try_into().unwrap();
    let kind = match scene.keeper.kind() {
        KeeperKind::Systemd => ResourceKind::Unit,
        KeeperKind::Shim => ResourceKind::Process,
    };
    assert_eq!((left.kind, &left.owner, &left.standing), (kind, &Owner::Vm(0.into()), &Standing::Ours));
    assert_eq!(matches!(&left.place, Place::Unit(name) if name == unit.name()), kind == ResourceKind::Unit);
    assert!(left.is_there());

    ground.end(&scene.keeper, &left).await.unwrap();
    gone(&started.leader).await;
    gone(&started.keeper).await;
    assert_eq!(running(&scene, &ground).await, []);
    scene.assert_nothing_left(&unit).await;
    // Nothing to do is success.
    ground.end(&scene.keeper, &left).await.unwrap();

    let mut folders = ground.resources(&[]).unwrap();
    folders.retain(|found| found.kind == ResourceKind::Runtime);
    let [folder] = folders.try_into().unwrap();
    assert_eq!((&folder.owner, &folder.standing), (&left.owner, &Standing::Ours));
    ground.end(&scene.keeper, &folder).await.unwrap();
    ground.erase(&folder).unwrap();
    assert!(!unit.runtime_dir().exists());
}

/// Whoever took the record away, the keeper keeps its programs.
async fn a_keeper_without_a_record_goes(scene: Scene) {
    let ground = ground(&scene, scene.instance);
    ground.claim().unwrap();
    let unit = scene.shell("exec sleep 1000");
    let started = scene.start(&unit).await;
    std::fs::remove_dir_all(unit.runtime_dir()).unwrap();
    let [left] = running(&scene, &ground).await.try_into().unwrap();
    assert_eq!(left.standing, Standing::Ours);
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
    assert_eq!(scene.keeper.units(scene.instance).await.unwrap(), [unit]);
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
