//! Whatever happens in whatever order: incarnations never overlap, dependents wait, every request is answered, the changes
//! tell the whole story, and when all is well again, everyone is up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nexus_actors::supervisor::{RequestError, Strategy, SupervisorMessage};
use nexus_model::Health;
use proptest::{prelude::*, strategy::Strategy as _};
use ractor::{ActorRef, RpcReplyPort};
use tokio::{task::JoinHandle, time::Instant};

use crate::probe::{Do, Event, Journal, Mode, Probe, Tree, assert_no_overlap, expect_panics};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Act {
    Panic(usize),
    Fail(usize),
    Stop(usize),
    Hang(usize),
    Kill(usize),
    Restart(usize),
    Reset(usize),
    Remove(usize),
    PreStart(usize, Mode),
    PostStart(usize, Mode),
    PostStop(usize, Mode),
    Wait(u64),
    Yield(u8),
}

fn mode() -> impl proptest::strategy::Strategy<Value = Mode> {
    prop_oneof![4 => Just(Mode::Fine), 1 => Just(Mode::Panic), 1 => Just(Mode::Fail), 1 => Just(Mode::Hang)]
}

fn act() -> impl proptest::strategy::Strategy<Value = Act> {
    let child = 0..NAMES.len();
    prop_oneof![
        3 => child.clone().prop_map(Act::Panic),
        2 => child.clone().prop_map(Act::Fail),
        2 => child.clone().prop_map(Act::Stop),
        1 => child.clone().prop_map(Act::Hang),
        3 => child.clone().prop_map(Act::Kill),
        3 => child.clone().prop_map(Act::Restart),
        2 => child.clone().prop_map(Act::Reset),
        1 => child.clone().prop_map(Act::Remove),
        2 => (child.clone(), mode()).prop_map(|(child, mode)| Act::PreStart(child, mode)),
        2 => (child.clone(), mode()).prop_map(|(child, mode)| Act::PostStart(child, mode)),
        2 => (child, mode()).prop_map(|(child, mode)| Act::PostStop(child, mode)),
        4 => (0_u64..8000).prop_map(Act::Wait),
        4 => (0_u8..30).prop_map(Act::Yield),
    ]
}

/// Sends a request and watches that it is answered.
fn ask<T: Send + 'static>(
    supervisor: &ActorRef<SupervisorMessage>,
    request: impl FnOnce(RpcReplyPort<Result<T, RequestError>>) -> SupervisorMessage + Send + 'static,
) -> JoinHandle<()> {
    let supervisor = supervisor.clone();
    tokio::spawn(async move {
        let reply = ractor::call!(supervisor, request);
        assert!(reply.is_ok(), "a request was dropped");
    })
}

async fn run(strategy: Strategy, acts: Vec<Act>) {
    let journal = Journal::default();
    let probes = NAMES.map(|name| Probe::new(name, &journal));
    let specs = probes.iter().map(Probe::spec).collect();
    let mut tree = Tree::grow(strategy, &journal, specs).await;
    let mut requests = Vec::new();
    let mut removed = BTreeSet::new();
    for act in acts {
        let tell = |child: usize, what: Do| {
            if let Some(actor) = probes[child].slot.now() {
                // It may have died this instant.
                let _ = actor.send_message(what);
            }
        };
        let named = |child: usize| NAMES[child].to_owned();
        match act {
            Act::Panic(child) => tell(child, Do::Panic),
            Act::Fail(child) => tell(child, Do::Fail),
            Act::Stop(child) => tell(child, Do::Stop),
            Act::Hang(child) => tell(child, Do::Hang),
            Act::Kill(child) => {
                if let Some(actor) = probes[child].slot.now() {
                    actor.kill();
                }
            }
            Act::Restart(child) => {
                let name = named(child);
                requests.push(ask(&tree.supervisor, |reply| SupervisorMessage::Restart { name, reply }));
            }
            Act::Reset(child) => {
                let name = named(child);
                requests.push(ask(&tree.supervisor, |reply| SupervisorMessage::Reset { name, reply }));
            }
            Act::Remove(child) => {
                let name = named(child);
                removed.insert(NAMES[child]);
                journal.write(Event::Removing(name.clone()));
                requests.push(ask(&tree.supervisor, |reply| SupervisorMessage::Remove { name, reply }));
            }
            Act::PreStart(child, mode) => probes[child].behave(|behaviour| behaviour.pre_start = mode),
            Act::PostStart(child, mode) => probes[child].behave(|behaviour| behaviour.post_start = mode),
            Act::PostStop(child, mode) => probes[child].behave(|behaviour| behaviour.post_stop = mode),
            Act::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
            Act::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    for probe in &probes {
        probe.behave(|behaviour| *behaviour = Default::default());
    }
    // Long enough for every timeout to pass; then nobody is hindered who doesn't hang and has not given up.
    tokio::time::sleep(Duration::from_secs(1000)).await;
    for probe in probes.iter().filter(|probe| !removed.contains(probe.name)) {
        tree.reset(probe.name).await.unwrap();
        // One that hangs in its handler, or in a stop of its own, is up as far as the supervisor can see.
        tree.restart(probe.name).await.unwrap();
    }
    for probe in &probes {
        if removed.contains(probe.name) {
            tree.until_removed(probe.name).await;
        } else {
            tree.until(probe.name, |status| status.health == Health::Ok).await;
            let generation = probe.generation().await;
            assert_eq!(tree.status(probe.name).generation, generation);
        }
    }
    for request in requests {
        request.await.unwrap();
    }
    let alive = NAMES.len() - removed.len();
    assert_eq!(tree.supervisor.get_children().len(), alive);
    tree.shut_down().await;

    let events = journal.take_timed();
    if strategy == Strategy::RestForOne {
        assert_dependents_wait(&events);
    }
    let events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
    assert_no_overlap(&events);
}

/// A child is started only when every one before it is up and none after it is left, those aside that are being removed.
fn assert_dependents_wait(events: &[(Instant, Event)]) {
    #[derive(Clone, Copy, PartialEq)]
    enum Is {
        Starting,
        Up,
        Gone(Instant),
    }
    let mut children: BTreeMap<&str, Is> = BTreeMap::new();
    let mut removing = BTreeSet::new();
    for (at, event) in events {
        match event {
            Event::Started(name, _) => {
                for earlier in NAMES.iter().take_while(|earlier| *earlier != name) {
                    // One that has died this instant, the supervisor has not heard of yet.
                    let fine = match children.get(earlier) {
                        Some(Is::Up) => true,
                        Some(Is::Gone(since)) => since == at,
                        Some(Is::Starting) | None => false,
                    };
                    assert!(fine || removing.contains(earlier), "{event} before {earlier} was up: {events:#?}");
                }
                for later in NAMES.iter().skip_while(|later| *later != name).skip(1) {
                    let gone = matches!(children.get(later), None | Some(Is::Gone(_)));
                    assert!(gone || removing.contains(later), "{event} before {later} was gone: {events:#?}");
                }
                children.insert(name, Is::Starting);
            }
            Event::Up(name, _) => {
                children.insert(name, Is::Up);
            }
            Event::Gone(name, _) => {
                children.insert(name, Is::Gone(*at));
            }
            Event::Stopped(..) => {}
            Event::Removing(name) => {
                removing.insert(name.as_str());
            }
        }
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn independent_children_survive_any_sequence(acts in prop::collection::vec(act(), 1..40)) {
        expect_panics();
        paused().block_on(run(Strategy::OneForOne, acts));
    }

    #[test]
    fn dependent_children_survive_any_sequence(acts in prop::collection::vec(act(), 1..40)) {
        expect_panics();
        paused().block_on(run(Strategy::RestForOne, acts));
    }
}
