//! Jobs: cancelled, and gone when they were shown for long enough.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, time::Duration};

use nexus_actors::StopOptions;
use nexus_dbus::client::Options;
use nexus_model::JobState;
use nexus_tests::{BreakableDaemon, PATIENCE, TestEngine};

#[tokio::test]
async fn a_start_that_is_cancelled_leaves_nothing_and_another_one_is_not_touched() {
    let nexus = BreakableDaemon::start().await;
    let folder = nexus.home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    let import = nexus.manager().await.import_image(folder.to_str().unwrap(), "tiny", Options::new()).await.unwrap();
    nexus.done(&import).await.unwrap();
    // A disk that takes long to be made, and that the start waits for.
    nexus.set("workspace.copied=pause\n").await;
    let vm = nexus.create("web", [("image", "tiny".into())]).await;
    let job = nexus.vm(&vm).await.start(Options::new()).await.unwrap();
    nexus.wait(&vm, |vm| vm.state == "starting").await;
    nexus.job(&job).await.cancel(Options::new()).await.unwrap();
    assert!(nexus.done(&job).await.unwrap_err().to_string().contains("was cancelled"));
    let stopped = nexus.read(&vm).await;
    assert_eq!((stopped.state.as_str(), stopped.state_reason.as_str(), stopped.leader), ("stopped", "cancelled", 0));
    nexus.set("").await;

    nexus.start_vm(&vm).await;
    assert!(nexus.job(&job).await.cancel(Options::new()).await.is_err());
    assert_eq!(nexus.shell(&vm, "echo on").await, (0, "on\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_when_it_was_shown_for_long_enough_after_its_end() {
    let test = TestEngine::start_with(|settings| settings.job_retention = Duration::from_millis(300)).await;
    let name = test.create("web", |_| ()).await.unwrap();
    let job = test.engine.start_vm(&TestEngine::origin(), &name).await.unwrap();
    let mut picture = test.engine.board().jobs().watch(&job).unwrap();
    let gone = async { while picture.changed().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(picture.borrow().state, JobState::Done);
    assert!(test.engine.board().jobs().get(&job).is_none());
    // The VM is no less there.
    let stop = test.engine.stop_vm(&TestEngine::origin(), &name, StopOptions { timeout: None }).await.unwrap();
    assert!(stop > job, "numbers are not used again");
}
