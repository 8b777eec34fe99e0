//! Incarnations that don't end when they should.

use std::{sync::mpsc, time::Duration};

use nexus_actors::supervisor::{ChildContext, ChildSpec, Lease, Strategy};
use nexus_model::restart::{Backoff, Intensity};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::probe::{Do, Journal, Probe, Tree, tenths_since};

#[tokio::test(start_paused = true)]
async fn the_next_incarnation_waits_for_the_last_lease_of_the_one_before() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    let (lease, _) = probe.context().await;
    let copy = lease.clone();
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(lease);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(copy);
    });
    tree.until_up("a", 2).await;
    assert_eq!(tenths_since(at), 30);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_waited_for_only_so_long() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    let (lease, _) = probe.context().await;
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    tree.until_up("a", 2).await;
    assert_eq!(tenths_since(at), 50);
    drop(lease);
    assert_eq!(probe.generation().await, 2);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_answered_when_the_last_lease_is_gone() {
    let probe = Probe::new("a", &Journal::default());
    let tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    let (lease, _) = probe.context().await;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(lease);
    });
    let at = Instant::now();
    assert_eq!(tree.remove("a").await, Ok(()));
    assert_eq!(tenths_since(at), 30);
    tree.shut_down().await;
}

/// Nothing interrupts synchronous code. It is left behind, and its successor has another generation.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_incarnation_that_even_a_kill_does_not_end_is_left_behind() {
    let probe = Probe::new("a", &Journal::default());
    let spec = ChildSpec { shutdown: Duration::from_millis(30), ..probe.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 1).await;
    let (release, until) = mpsc::channel();
    let old = probe.actor().await;
    // A stop overtakes messages: it would end an actor that has not begun with this one.
    ractor::call!(old, |reply| Do::Block(until, reply)).unwrap();
    assert_eq!(tree.restart("a").await, Ok(2));
    assert_eq!(probe.generation().await, 2);
    assert!(!probe.journal.words().contains(&"gone a1".to_owned()));

    // When it ends at last, nobody takes its end for that of its successor.
    drop(release);
    old.wait(Some(Duration::from_secs(10))).await.unwrap();
    assert_eq!(probe.generation().await, 2);
    let status = tree.until_up("a", 2).await;
    assert_eq!(status.fault_count, 0);
    tree.shut_down().await;
}

/// Owns a grandchild with a registered name, which it sends into synchronous code.
struct Parent;

struct Grandchild;

impl Actor for Grandchild {
    type Msg = Duration;
    type State = Lease;
    type Arguments = Lease;

    async fn pre_start(&self, _: ActorRef<Duration>, lease: Lease) -> Result<Lease, ActorProcessingErr> {
        Ok(lease)
    }

    async fn handle(&self, _: ActorRef<Duration>, busy: Duration, _: &mut Lease) -> Result<(), ActorProcessingErr> {
        let end = std::time::Instant::now() + busy;
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

impl Actor for Parent {
    type Msg = Duration;
    type State = (Lease, ActorRef<Duration>);
    type Arguments = (String, Lease);

    async fn pre_start(
        &self,
        myself: ActorRef<Duration>,
        (name, lease): (String, Lease),
    ) -> Result<Self::State, ActorProcessingErr> {
        let grandchild = Actor::spawn_linked(Some(name), Grandchild, lease.clone(), myself.get_cell()).await?.0;
        Ok((lease, grandchild))
    }

    async fn handle(
        &self,
        myself: ActorRef<Duration>,
        busy: Duration,
        (_, grandchild): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        grandchild.send_message(busy)?;
        tokio::task::yield_now().await;
        myself.kill();
        Ok(())
    }
}

/// 300 such kills with immediate respawn gave 128 collisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subtree_that_is_slow_to_end_never_collides_with_its_successor() {
    let name = "lease-grandchild";
    let start = move |context: ChildContext| async move {
        context.spawn(Parent, (name.to_owned(), context.lease.clone())).await
    };
    let spec = ChildSpec {
        backoff: Backoff { initial: Duration::ZERO, max: Duration::ZERO, jitter: 0.0 },
        intensity: Intensity { max: u32::MAX, window: Duration::from_secs(3600) },
        ..ChildSpec::new("a", start)
    };
    let mut tree = Tree::grow(Strategy::OneForOne, &Journal::default(), vec![spec]).await;
    for generation in 1..=300 {
        let up = tree.until_up("a", generation).await;
        assert_eq!(up.fault_count, generation - 1, "{}", up.last_fault_reason);
        let parent: ActorCell = tree.supervisor.get_children().remove(0);
        parent.send_message(Duration::from_millis(2)).unwrap();
        let fault = tree.until_faults("a", generation).await;
        assert_eq!(fault.last_fault_reason, "it was killed");
    }
    tree.until_up("a", 301).await;
    tree.shut_down().await;
    assert!(!ractor::registry::registered().contains(&name.to_owned()));
}
