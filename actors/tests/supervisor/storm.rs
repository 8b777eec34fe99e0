//! Many children, many faults, and nothing left afterwards.

use std::{collections::BTreeMap, time::Duration};

use nexus_actors::supervisor::{ChildContext, ChildSpec, GiveUp, Strategy, SupervisorConfig};
use nexus_model::{
    Health,
    restart::{Backoff, Intensity},
};
use ractor::Actor;
use tokio::runtime::Handle;

use crate::probe::{Do, Event, Journal, Mode, Probe, Tree, assert_no_overlap, expect_panics};

const CHILDREN: usize = 400;
const FAULTS: u64 = 5;

/// A child that registers its name, which collides if two incarnations overlap.
fn registered(probe: &Probe) -> ChildSpec {
    let inner = probe.clone();
    let spec = ChildSpec::new(probe.name, move |context: ChildContext| {
        let inner = inner.clone();
        async move {
            let name = Some(inner.name.to_owned());
            let (actor, _) = Actor::spawn_linked(name, inner, context.clone(), context.supervisor).await?;
            Ok(actor.get_cell())
        }
    });
    ChildSpec {
        backoff: Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(4), jitter: 0.5 },
        intensity: Intensity { max: u32::MAX, window: Duration::from_secs(3600) },
        ..spec
    }
    .published_in(&probe.slot)
}

fn registered_names(prefix: &str) -> usize {
    ractor::registry::registered().iter().filter(|name| name.starts_with(prefix)).count()
}

/// Hits every child of a tree with faults of every kind, all at once, and again as soon as it is back.
async fn rage(probes: &[Probe]) {
    let storms: Vec<_> = probes
        .iter()
        .cloned()
        .enumerate()
        .map(|(index, probe)| {
            tokio::spawn(async move {
                for fault in 0..FAULTS {
                    let actor = probe.actor().await;
                    match (index as u64 + fault) % 4 {
                        0 => actor.send_message(Do::Panic).unwrap(),
                        1 => actor.send_message(Do::Fail).unwrap(),
                        2 => actor.send_message(Do::Stop).unwrap(),
                        _ => actor.kill(),
                    }
                    actor.wait(None).await.unwrap();
                }
            })
        })
        .collect();
    for storm in storms {
        storm.await.unwrap();
    }
}

async fn storm(prefix: &str, probes: &[Probe], journal: &Journal) {
    expect_panics();
    let tasks = Handle::current().metrics().num_alive_tasks();
    let calm = Probe::new("calm", journal);
    let children = probes.iter().map(registered).chain([calm.spec()]).collect();
    let mut tree = Tree::grow(Strategy::OneForOne, journal, children).await;
    tree.until_up("calm", 1).await;
    rage(probes).await;
    for probe in probes {
        let status = tree.until_up(probe.name, FAULTS + 1).await;
        assert_eq!((status.fault_count, status.restart_count), (FAULTS, FAULTS), "{status:?}");
    }
    assert_eq!(calm.generation().await, 1);
    assert_eq!(registered_names(prefix), CHILDREN);
    assert_eq!(tree.supervisor.get_children().len(), CHILDREN + 1);
    tree.shut_down().await;

    assert_no_overlap(&journal.take());
    assert_eq!(registered_names(prefix), 0);
    // The last tasks may be about to return.
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while Handle::current().metrics().num_alive_tasks() > tasks {
        assert!(std::time::Instant::now() < end, "tasks are left over");
        tokio::task::yield_now().await;
    }
}

fn probes(prefix: &str, journal: &Journal) -> Vec<Probe> {
    (0..CHILDREN).map(|index| Probe::new(format!("{prefix}{index}").leak(), journal)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_storm_leaves_everyone_up_and_nothing_behind() {
    let journal = Journal::default();
    let probes = probes("breeze-", &journal);
    storm("breeze-", &probes, &journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_on_several_threads_leaves_everyone_up_and_nothing_behind() {
    let journal = Journal::default();
    let probes = probes("gale-", &journal);
    for (index, probe) in probes.iter().enumerate() {
        probe.behave(|behaviour| behaviour.drop_panics = index % 5 == 0);
    }
    storm("gale-", &probes, &journal).await;
}

/// Trees are grown and felled at every stage of their life.
#[tokio::test(start_paused = true)]
async fn a_tree_leaves_nothing_behind_however_it_ends() {
    expect_panics();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for round in 0..60 {
        let journal = Journal::default();
        let [fine, fails, hangs, slow] = ["fine", "fails", "hangs", "slow"].map(|name| Probe::new(name, &journal));
        fails.behave(|behaviour| behaviour.post_start = Mode::Panic);
        hangs.behave(|behaviour| behaviour.pre_start = Mode::Hang);
        slow.behave(|behaviour| behaviour.post_stop = Mode::Hang);
        let strategy = if round % 2 == 0 { Strategy::OneForOne } else { Strategy::RestForOne };
        let below = [slow.clone(), fine.clone(), fails.clone(), hangs.clone()];
        let team = ChildSpec::supervisor("team", move |_| {
            let children = below.iter().map(Probe::spec).collect();
            async move { Ok(SupervisorConfig { strategy, children }) }
        });
        let mut tree = Tree::grow(Strategy::OneForOne, &journal, vec![team]).await;
        tokio::time::sleep(Duration::from_millis(round * 300)).await;
        if round % 3 == 0 {
            tree.supervisor.kill();
            tree.root.take().unwrap().ended().await;
        } else {
            tree.shut_down().await;
        }
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while Handle::current().metrics().num_alive_tasks() > tasks {
            assert!(std::time::Instant::now() < end, "tasks are left over in round {round}");
            tokio::task::yield_now().await;
        }
        assert_no_overlap(&journal.take());
    }
}

/// The board alone, as the changes tell it, through a storm of escalations.
#[tokio::test(start_paused = true)]
async fn no_change_is_lost_in_a_storm() {
    expect_panics();
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    probe.behave(|behaviour| behaviour.post_start = Mode::Panic);
    let inner = probe.clone();
    let patient = Intensity { max: u32::MAX, window: Duration::from_secs(60) };
    let team = ChildSpec::supervisor("team", move |_| {
        let children = vec![ChildSpec { give_up: GiveUp::Escalate, ..inner.spec() }];
        async move { Ok(SupervisorConfig { strategy: Strategy::OneForOne, children }) }
    });
    let team = ChildSpec { intensity: patient, ..team };
    let mut tree = Tree::grow(Strategy::OneForOne, &journal, vec![team]).await;
    tree.until_faults("team", 20).await;
    let member = tree.status("team/a");
    assert!(member.fault_count >= 80 && member.generation == member.fault_count, "{member:?}");
    let faults: BTreeMap<u64, u64> = tree.history.iter().fold(BTreeMap::new(), |mut faults, change| {
        if let nexus_actors::supervisor::StatusChange::Changed(status) = change
            && status.path == "root/team/a"
        {
            *faults.entry(status.fault_count).or_default() += 1;
        }
        faults
    });
    assert!((1..80).all(|count| faults.contains_key(&count)), "a fault was not told");
    probe.behave(|behaviour| behaviour.post_start = Mode::Fine);
    tree.until("team/a", |status| status.health == Health::Ok).await;
    tree.shut_down().await;
    let events = journal.take();
    assert!(events.iter().any(|event| matches!(event, Event::Up(..))));
    assert_no_overlap(&events);
}
