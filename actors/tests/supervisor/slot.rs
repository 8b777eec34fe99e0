//! Finding the current incarnation.

use std::time::Duration;

use nexus_actors::supervisor::{ActorSlot, ChildSpec, Strategy};
use nexus_model::Health;
use tokio::time::Instant;

use crate::probe::{Do, Journal, Mode, PATIENCE, Probe, Tree, tenths_since};

#[tokio::test(start_paused = true)]
async fn a_slot_waits_for_the_next_incarnation() {
    let probe = Probe::new("a", &Journal::default());
    assert_eq!(probe.slot.now(), None);
    let tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    let first = probe.slot.now().unwrap();
    first.send_message(Do::Panic).unwrap();
    // The status, which is told after the fault, need not be known here.
    while probe.slot.now().is_some() {
        tokio::task::yield_now().await;
    }
    let at = Instant::now();
    let second = probe.slot.current(PATIENCE).await.unwrap();
    assert_eq!(tenths_since(at), 10);
    assert_ne!(first, second);
    assert_eq!(probe.generation().await, 2);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_gives_up_at_the_deadline() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    assert_eq!(probe.slot.current(Duration::from_millis(900)).await, None);
    assert_eq!(tenths_since(at), 9);
    tree.shut_down().await;
}

/// Before the supervisor has heard of the end.
#[tokio::test(start_paused = true)]
async fn a_slot_never_gives_out_an_actor_that_is_dead() {
    let probe = Probe::new("a", &Journal::default());
    let tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    for _ in 0..3 {
        let actor = probe.actor().await;
        actor.kill();
        actor.wait(None).await.unwrap();
        assert_eq!(probe.slot.now(), None);
    }
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_empty_while_its_actor_starts_or_is_asked_to_stop() {
    let probe = Probe::new("a", &Journal::default());
    probe.behave(|behaviour| behaviour.post_start = Mode::Hang);
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![probe.spec()]).await;
    tree.until("a", |status| status.generation == 1).await;
    assert_eq!(probe.slot.now(), None);
    probe.behave(|behaviour| behaviour.post_start = Mode::Fine);
    tree.until_up("a", 2).await;

    let old = probe.actor().await;
    probe.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    let (restart, ()) = tokio::join!(tree.restart("a"), async {
        while probe.slot.now().is_some() {
            tokio::task::yield_now().await;
        }
        probe.behave(|behaviour| behaviour.post_stop = Mode::Fine);
    });
    assert_eq!(restart, Ok(3));
    assert_ne!(probe.actor().await, old);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_for_other_messages_stays_empty() {
    let probe = Probe::new("a", &Journal::default());
    let slot: ActorSlot<u32> = ActorSlot::new();
    let spec = ChildSpec { slot: Some((&slot).into()), ..probe.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until("a", |status| status.health == Health::Ok).await;
    assert_eq!(slot.now(), None);
    tree.shut_down().await;
}
