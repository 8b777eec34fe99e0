//! VMs that start with the daemon.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use nexus_actors::{
    StopOptions,
    snapshot::{Change, Update},
};
use nexus_model::{Name, vm::VmState};
use nexus_tests::TestEngine;

async fn with_vms(count: usize) -> (TestEngine, Vec<Name>) {
    let test = TestEngine::start().await;
    let mut names = Vec::new();
    for number in (0..count).rev() {
        names.push(test.create(&format!("vm-{number}"), |spec| spec.autostart = true).await.unwrap());
    }
    (test.restart().await, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_start_in_their_order_and_two_at_a_time() {
    let (test, names) = with_vms(6).await;
    let mut changes = test.engine.board().follow();
    test.engine.autostart().await.unwrap();
    for name in &names {
        assert_eq!(test.state(name), VmState::Running);
    }
    let (mut begun, mut starting) = (Vec::new(), BTreeSet::new());
    while let Ok(change) = changes.try_recv() {
        let Change::Vm(Update::Changed(name, vm)) = change else { continue };
        if vm.lifecycle.state() == VmState::Starting {
            if !begun.contains(&name) {
                begun.push(name.clone());
            }
            starting.insert(name);
            assert!(starting.len() <= 2, "{starting:?} start at once");
        } else {
            starting.remove(&name);
        }
    }
    // Two that start at once may overtake each other, and nobody else.
    for (at, name) in begun.iter().enumerate() {
        let due = names.iter().position(|other| other == name).unwrap();
        assert!(at.abs_diff(due) <= 1, "{begun:?} is not the order of {names:?}");
    }
    assert_eq!(begun.len(), names.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stopped_before_its_turn_does_not_start() {
    let (test, names) = with_vms(5).await;
    let last = names.last().unwrap();
    let stop = async {
        let options = StopOptions { timeout: None };
        test.engine.stop_vm(&TestEngine::origin(), last, options).await.unwrap()
    };
    let (started, _) = tokio::join!(test.engine.autostart(), stop);
    started.unwrap();
    for name in &names[..4] {
        assert_eq!(test.state(name), VmState::Running);
    }
    assert_eq!(test.state(last), VmState::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_stopped_stays_stopped_though_it_never_ran() {
    let test = TestEngine::start().await;
    let name = test.create("web", |spec| spec.autostart = true).await.unwrap();
    test.engine.kill_vm(&TestEngine::origin(), &name).await.unwrap();
    let test = test.restart().await;
    test.engine.autostart().await.unwrap();
    assert_eq!(test.state(&name), VmState::Created);
}
