//! Agents that are not as new as nexusd, or not as good: what they are asked, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use nexus_actors::{GuestCommand, GuestShell, snapshot::VmSnapshot};
use nexus_model::{ConnectionState, ErrorKind, Name, vm::VmState};
use nexus_protocol::Features;
use nexus_tests::{Manners, StandIn, TestEngine};

/// A VM whose agent is one of such manners.
async fn with(manners: Manners) -> (TestEngine, Name, StandIn) {
    let test = TestEngine::start().await;
    let name = test.create("web", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let socket = vm.vsock_socket.clone().unwrap();
    let stand_in = StandIn::take_place(&socket, manners);
    test.engine.close_connection(&name, 1).await.unwrap();
    let is_other = |vm: &VmSnapshot| vm.guest.as_ref().is_some_and(|guest| guest.hostname == "stand-in");
    test.wait(&name, |vm| is_other(vm)).await;
    (test, name, stand_in)
}

fn command() -> GuestCommand {
    GuestCommand {
        argv: vec!["true".to_owned()],
        env: Default::default(),
        working_directory: None,
        user: None,
        timeout: None,
    }
}

async fn works(test: &TestEngine, name: &Name) {
    let outcome = test.engine.guest_run(&TestEngine::origin(), name, command()).await.unwrap();
    assert_eq!(outcome.stdout, b"stand-in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_refreshed_before_anything_else_and_frozen_before_it_stands_still() {
    let (test, name, agent) = with(Manners { features: &[Features::CLOCK], ..Manners::default() }).await;
    works(&test, &name).await;
    assert_eq!(agent.asked(), ["hello", "refresh", "run"]);
    let origin = TestEngine::origin();
    test.engine.pause_vm(&origin, &name).await.unwrap();
    assert_eq!(agent.asked(), ["freeze"]);
    test.engine.resume_vm(&origin, &name).await.unwrap();
    works(&test, &name).await;
    assert_eq!(agent.asked(), ["refresh", "run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lacks_everything_is_not_asked_for_it() {
    let (test, name, agent) = with(Manners::default()).await;
    assert!(test.vm(&name).guest.as_ref().unwrap().features.is_empty());
    // What others keep for their clients is opened when somebody wants it.
    for number in 2..=5 {
        let spare = test.engine.board().connections().get(&(name.clone(), number)).unwrap();
        assert_eq!(spare.state, ConnectionState::Parked, "{spare:?}");
        assert!(
            spare.failure.as_ref().is_some_and(|why| why.contains("0.1.0 can't have spare connections")),
            "{spare:?}"
        );
    }
    let origin = TestEngine::origin();
    works(&test, &name).await;
    test.engine.pause_vm(&origin, &name).await.unwrap();
    test.engine.resume_vm(&origin, &name).await.unwrap();
    works(&test, &name).await;
    assert_eq!(agent.asked(), ["hello", "run", "run"]);
    let shell = GuestShell { command: command(), name: None, size: None, read_only: false };
    let terminal = test.engine.guest_open_shell(&origin, &name, shell).await.unwrap_err();
    let resized = test.engine.guest_resize_exec(&name, 1, 80, 24).await.unwrap_err();
    let tools = test.engine.guest_open_tools(&origin, &name).await.unwrap_err();
    for lacking in [terminal, resized, tools] {
        let text = lacking.text();
        assert_eq!(lacking.kind(), ErrorKind::NotImplemented, "{text}");
        assert!(text.contains("the guest agent 0.1.0 can't ") && text.contains("build the image again"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever_for_an_agent_that_does_not_put_its_clock_right() {
    let begun = Instant::now();
    let (test, name, _agent) = with(Manners { features: &[Features::CLOCK], silent: true, ..Manners::default() }).await;
    let origin = TestEngine::origin();
    test.engine.pause_vm(&origin, &name).await.unwrap();
    assert_eq!(test.state(&name), VmState::Paused);
    test.engine.resume_vm(&origin, &name).await.unwrap();
    works(&test, &name).await;
    // Five seconds for each of two refreshes, and two for the freeze.
    assert!(begun.elapsed() >= Duration::from_secs(12), "nobody waited for it at all");
    assert!(begun.elapsed() < Duration::from_secs(120), "it took {:?}", begun.elapsed());
}
