//! A user manager and a bus that are restarted under the keeper that uses them.

use nexus_host::unit::{UnitError, UnitState};
use nexus_model::{ErrorKind, ExitStatus};

use crate::scene::{SOON, Scene, gone};

/// Once, the connection of the first day was the last one: no VM started until nexusd did again.
#[tokio::test]
async fn a_bus_that_was_killed_is_connected_to_again() {
    let Some(scene) = Scene::systemd().await else { return };
    let before = scene.shell("exec sleep 1000");
    let started = scene.start(&before).await;

    scene.manager().unwrap().kill_bus().await;
    let after = scene.shell("exec sleep 1000");
    scene.start(&after).await;
    let state = scene.keeper.inspect(before.name(), before.runtime_dir()).await.unwrap();
    assert_eq!(state, UnitState::Running(Box::new(started)));

    // Each call by itself is the first on a connection that has broken.
    scene.manager().unwrap().kill_bus().await;
    let expected = [before.name().to_owned(), after.name().to_owned()];
    assert_eq!(scene.keeper.list(scene.instance).await.unwrap(), expected);
    for unit in [&before, &after] {
        scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
        scene.manager().unwrap().kill_bus().await;
        scene.keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap();
    }
    scene.assert_nothing_left(&before).await;
    scene.assert_nothing_left(&after).await;
}

#[tokio::test]
async fn a_manager_that_was_started_again_starts_units() {
    let Some(mut scene) = Scene::systemd().await else { return };
    let before = scene.shell("exec sleep 1000");
    let started = scene.start(&before).await;

    scene.manager_mut().unwrap().restart();
    gone(&started.keeper).await;
    let end = scene.keeper.ended(before.name(), before.runtime_dir()).await.unwrap();
    assert_eq!(end.status, ExitStatus::Unknown);
    scene.keeper.collect(before.name(), before.runtime_dir()).await.unwrap();

    let after = scene.shell("exit 7");
    let started = scene.start(&after).await;
    assert_eq!(scene.end(&after, &started).await.status, ExitStatus::Code(7));
    scene.keeper.collect(after.name(), after.runtime_dir()).await.unwrap();
    scene.assert_nothing_left(&after).await;
}

#[tokio::test]
async fn a_manager_that_stays_away_is_not_waited_for_for_ever() {
    let Some(mut scene) = Scene::systemd().await else { return };
    scene.manager_mut().unwrap().stop();
    let unit = scene.shell("exit 0");
    let start = tokio::time::timeout(SOON, scene.keeper.start(&unit.spec)).await.expect("it gives up soon");
    let error = start.unwrap_err();
    assert!(matches!(error, UnitError::Manager { action: "start", .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::HypervisorFailed);
    assert_eq!(crate::scene::files(unit.runtime_dir()), ["vmm"]);
}
