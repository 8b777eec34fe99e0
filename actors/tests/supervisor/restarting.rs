//! Back-off, intensity, and giving up.

use std::time::Duration;

use nexus_actors::supervisor::{ChildSpec, GiveUp, RequestError, Strategy};
use nexus_model::{
    Health,
    restart::{Backoff, Intensity},
};
use tokio::time::{Instant, advance};

use crate::probe::{Do, Journal, Mode, Probe, Tree, tenths_since};

/// Panics the child and returns how long it is away, in tenths of a second.
async fn away(probe: &Probe, tree: &mut Tree) -> u128 {
    let before = tree.status(probe.name);
    probe.tell(Do::Panic).await;
    tree.until_faults(probe.name, before.fault_count + 1).await;
    let at = Instant::now();
    tree.until_up(probe.name, before.generation + 1).await;
    tenths_since(at)
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_up_to_its_limit_and_begins_anew_after_a_whole_window_up() {
    let probe = Probe::new("a", &Journal::default());
    let spec = ChildSpec { intensity: Intensity { max: 100, window: Duration::from_secs(60) }, ..probe.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 1).await;
    for tenths in [10, 20, 40, 80, 160, 160, 160] {
        assert_eq!(away(&probe, &mut tree).await, tenths);
    }
    advance(Duration::from_millis(59_900)).await;
    assert_eq!(away(&probe, &mut tree).await, 160, "not a whole window");
    advance(Duration::from_secs(60)).await;
    assert_eq!(away(&probe, &mut tree).await, 10);
    assert_eq!(away(&probe, &mut tree).await, 20);
    tree.shut_down().await;
}

/// A wait longer than the window is no time in which the child was well.
#[tokio::test(start_paused = true)]
async fn back_off_keeps_growing_beyond_the_window() {
    let probe = Probe::new("a", &Journal::default());
    let spec = ChildSpec {
        intensity: Intensity { max: 100, window: Duration::from_secs(3) },
        backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(64), jitter: 0.0 },
        ..probe.spec()
    };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 1).await;
    for tenths in [10, 20, 40, 80, 160, 320, 640, 640] {
        assert_eq!(away(&probe, &mut tree).await, tenths);
    }
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn back_off_is_spread_by_its_jitter() {
    let probe = Probe::new("a", &Journal::default());
    let spec = ChildSpec {
        intensity: Intensity { max: 1000, window: Duration::from_secs(60) },
        backoff: Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(10), jitter: 0.2 },
        ..probe.spec()
    };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 1).await;
    let mut waits = Vec::new();
    for _ in 0..50 {
        waits.push(away(&probe, &mut tree).await);
    }
    assert!(waits.iter().all(|wait| (80..=120).contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 5, "not spread: {waits:?}");
    tree.shut_down().await;
}

async fn given_up() -> (Probe, Tree) {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    for _ in 0..3 {
        away(&probe, &mut tree).await;
    }
    probe.tell(Do::Panic).await;
    let status = tree.until("a", |status| status.health == Health::Failed).await;
    assert_eq!((status.fault_count, status.generation, status.restart_count), (4, 4, 3));
    assert!(status.next_restart_at.is_never());
    (probe, tree)
}

#[tokio::test(start_paused = true)]
async fn a_child_with_too_many_faults_stays_down_until_it_is_reset() {
    let (probe, mut tree) = given_up().await;
    advance(Duration::from_secs(100_000)).await;
    assert_eq!(tree.status("a").health, Health::Failed);
    assert_eq!(probe.slot.now(), None);

    assert_eq!(tree.reset("a").await, Ok(()));
    let status = tree.until_up("a", 5).await;
    // What was counted is still told.
    assert_eq!(status.fault_count, 4);
    // All its restarts are back, and its back-off begins anew.
    for tenths in [10, 20, 40] {
        assert_eq!(away(&probe, &mut tree).await, tenths);
    }
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_a_child_that_gave_up_forgets_nothing() {
    let (probe, mut tree) = given_up().await;
    assert_eq!(tree.restart("a").await, Ok(5));
    tree.until_up("a", 5).await;
    probe.tell(Do::Panic).await;
    let status = tree.until("a", |status| status.health == Health::Failed).await;
    assert_eq!(status.fault_count, 5);
    assert!(status.next_restart_at.is_never());

    probe.behave(|behaviour| behaviour.pre_start = Mode::Fail);
    let reason = "error in pre_start".to_owned();
    assert_eq!(tree.restart("a").await, Err(RequestError::Faulted { reason }));
    assert_eq!(tree.status("a").health, Health::Failed);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn faults_outside_the_window_are_not_too_many() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    for _ in 0..20 {
        away(&probe, &mut tree).await;
        advance(Duration::from_secs(21)).await;
    }
    assert_eq!(tree.status("a").health, Health::Ok);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_tried_slowly_gets_its_quick_restarts_back_after_a_whole_window() {
    let probe = Probe::new("a", &Journal::default());
    let give_up = GiveUp::Retry { every: Duration::from_secs(100), health: Health::Unmanaged };
    let spec = ChildSpec { give_up, ..probe.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 1).await;
    for tenths in [10, 20, 40] {
        assert_eq!(away(&probe, &mut tree).await, tenths);
    }
    for faults in 4..8 {
        probe.tell(Do::Panic).await;
        let status = tree.until_faults("a", faults).await;
        assert_eq!(status.health, Health::Unmanaged);
        assert!(!status.next_restart_at.is_never());
        let at = Instant::now();
        tree.until_up("a", faults + 1).await;
        assert_eq!(tenths_since(at), 1000);
        advance(Duration::from_secs(59)).await;
    }
    advance(Duration::from_secs(1)).await;
    assert_eq!(away(&probe, &mut tree).await, 10);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_flapping_child_disturbs_neither_its_siblings_nor_its_supervisor() {
    let journal = Journal::default();
    let (flapping, calm, late) = (Probe::new("a", &journal), Probe::new("b", &journal), Probe::new("c", &journal));
    let endless = Intensity { max: u32::MAX, window: Duration::from_secs(60) };
    let spec = ChildSpec { intensity: endless, ..flapping.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &journal, vec![spec, calm.spec()]).await;
    tree.until_up("b", 1).await;
    let actor = calm.actor().await;
    flapping.behave(|behaviour| behaviour.post_start = Mode::Panic);
    flapping.tell(Do::Panic).await;
    tree.until_faults("a", 50).await;
    assert_eq!(calm.actor().await, actor);
    assert_eq!(tree.status("b").restart_count, 0);

    // In back-off, and the supervisor answers at once.
    let at = Instant::now();
    assert_eq!(tree.start(late.spec()).await, Ok(1));
    assert_eq!(tree.restart("b").await, Ok(2));
    assert_eq!(tree.remove("c").await, Ok(()));
    assert_eq!(tenths_since(at), 0);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn generations_begin_where_the_caller_says_and_never_repeat() {
    let probe = Probe::new("a", &Journal::default());
    let spec = ChildSpec { generation: 41, ..probe.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 41).await;
    // A start that fails takes a number, too: something of it might survive.
    probe.behave(|behaviour| behaviour.pre_start = Mode::Fail);
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 2).await;
    probe.behave(|behaviour| behaviour.pre_start = Mode::Fine);
    let status = tree.until_up("a", 43).await;
    assert_eq!(status.restart_count, 2);
    assert_eq!(probe.generation().await, 43);
    tree.shut_down().await;
}
