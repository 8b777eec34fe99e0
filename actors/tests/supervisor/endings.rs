//! How incarnations end, and what follows.

use nexus_actors::supervisor::{ChildSpec, Restart, Strategy};
use nexus_model::Health;

use crate::probe::{Do, Journal, Mode, Probe, Tree, tenths_since};

async fn one() -> (Probe, Tree) {
    let probe = Probe::new("a", &Journal::default());
    let tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    (probe, tree)
}

/// The fault is counted and told, and the child comes back after its back-off.
async fn comes_back(probe: &Probe, tree: &mut Tree, reason: &str) {
    let fault = tree.until_faults("a", 1).await;
    assert_eq!(fault.last_fault_reason, reason);
    assert_eq!((fault.health, fault.generation, fault.restart_count), (Health::Restarting, 1, 0));
    assert!(fault.next_restart_at > fault.last_fault_at && fault.started_at.is_never());
    let at = tokio::time::Instant::now();
    let up = tree.until_up("a", 2).await;
    assert_eq!(tenths_since(at), 10);
    assert_eq!((up.restart_count, up.fault_count, up.failure_count), (1, 1, 0));
    assert!(up.next_restart_at.is_never() && !up.started_at.is_never());
    assert_eq!(probe.generation().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_handle_is_a_fault() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::Panic).await;
    comes_back(&probe, &mut tree, "panic in handle").await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_in_handle_is_a_fault() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::Fail).await;
    comes_back(&probe, &mut tree, "error in handle").await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_reason_names_the_sources_and_has_a_bound() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::FailAtLength).await;
    let fault = tree.until_faults("a", 1).await;
    assert!(fault.last_fault_reason.starts_with("outer: inner inner"), "{}", fault.last_fault_reason);
    assert_eq!(fault.last_fault_reason.chars().count(), 501);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_a_fault() {
    let (probe, mut tree) = one().await;
    probe.actor().await.kill();
    comes_back(&probe, &mut tree, "it was killed").await;
    assert!(!tree.journal.words().contains(&"stop a1".to_owned()));
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_handler_that_hangs() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::Hang).await;
    probe.actor().await.kill();
    comes_back(&probe, &mut tree, "it was killed").await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_normal_stop_of_a_permanent_child_is_a_fault() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::Stop).await;
    comes_back(&probe, &mut tree, "it stopped unasked: enough").await;
    assert!(tree.journal.words().contains(&"stop a1".to_owned()));
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_an_error_in_post_stop_is_a_fault() {
    for (mode, reason) in [(Mode::Panic, "panic in post_stop"), (Mode::Fail, "error in post_stop")] {
        let (probe, mut tree) = one().await;
        probe.behave(|behaviour| behaviour.post_stop = mode);
        probe.tell(Do::Stop).await;
        let fault = tree.until_faults("a", 1).await;
        assert_eq!(fault.last_fault_reason, reason);
        probe.behave(|behaviour| behaviour.post_stop = Mode::Fine);
        tree.until_up("a", 2).await;
        tree.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_post_stop_of_a_requested_stop_counts_but_delays_nothing() {
    let (probe, mut tree) = one().await;
    probe.behave(|behaviour| behaviour.post_stop = Mode::Panic);
    let at = tokio::time::Instant::now();
    assert_eq!(tree.restart("a").await, Ok(2));
    assert_eq!(tenths_since(at), 0);
    let status = tree.until_up("a", 2).await;
    assert_eq!((status.fault_count, status.last_fault_reason.as_str()), (1, "panic in post_stop"));
    // It is still the first of its faults as far as back-off goes.
    probe.behave(|behaviour| behaviour.post_stop = Mode::Fine);
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 2).await;
    let at = tokio::time::Instant::now();
    tree.until_up("a", 3).await;
    assert_eq!(tenths_since(at), 10);
    tree.shut_down().await;
}

/// ractor hands the state to the supervisor, where its `Drop` would take the supervisor along.
#[tokio::test(start_paused = true)]
async fn a_panic_in_drop_harms_neither_supervisor_nor_sibling() {
    let journal = Journal::default();
    let (probe, sibling) = (Probe::new("a", &journal), Probe::new("b", &journal));
    probe.behave(|behaviour| behaviour.drop_panics = true);
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe, &sibling]).await;

    probe.tell(Do::Stop).await;
    tree.until_up("a", 2).await;
    probe.actor().await.kill();
    tree.until_up("a", 3).await;
    probe.tell(Do::Panic).await;
    tree.until_up("a", 4).await;
    assert_eq!(tree.restart("a").await, Ok(5));
    assert_eq!(tree.remove("a").await, Ok(()));

    assert_eq!(journal.words().iter().filter(|word| word.starts_with("gone a")).count(), 5);
    assert_eq!(sibling.generation().await, 1);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn many_panics_in_drop_during_an_ordered_end_harm_nobody() {
    let journal = Journal::default();
    let probes = ["a", "b", "c", "d"].map(|name| Probe::new(name, &journal));
    for probe in &probes {
        probe.behave(|behaviour| behaviour.drop_panics = true);
    }
    let tree = Tree::of(Strategy::OneForOne, &probes.each_ref()).await;
    tree.shut_down().await;
    assert_eq!(journal.words().iter().filter(|word| word.starts_with("gone")).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_is_forgotten_after_a_normal_stop_only() {
    let probe = Probe::new("a", &Journal::default());
    let spec = ChildSpec { restart: Restart::Transient, ..probe.spec() };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_up("a", 1).await;
    probe.tell(Do::Panic).await;
    let status = tree.until_up("a", 2).await;
    assert_eq!(status.fault_count, 1);
    probe.actor().await.kill();
    let status = tree.until_up("a", 3).await;
    assert_eq!(status.fault_count, 2);
    probe.tell(Do::Stop).await;
    tree.until_removed("a").await;
    // The name is free again.
    assert_eq!(tree.start(probe.spec()).await, Ok(1));
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_forgotten_however_it_ends() {
    for (what, faults) in [(Do::Stop, 0), (Do::Panic, 1), (Do::Fail, 1)] {
        let probe = Probe::new("a", &Journal::default());
        let spec = ChildSpec { restart: Restart::Temporary, ..probe.spec() };
        let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
        tree.until_up("a", 1).await;
        probe.tell(what).await;
        if faults > 0 {
            assert_eq!(tree.until_faults("a", 1).await.health, Health::Failed);
        }
        tree.until_removed("a").await;
        assert_eq!(probe.journal.words().iter().filter(|word| word.starts_with("start")).count(), 1);
        tree.shut_down().await;
    }
}

/// ractor tells of a stop when `post_stop` has returned, so nobody knows; but nobody sends to it either, and it can be ended.
#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_unasked_is_ended_by_a_restart() {
    for what in [Do::Stop, Do::Hang] {
        let (probe, mut tree) = one().await;
        probe.behave(|behaviour| behaviour.post_stop = Mode::Hang);
        probe.tell(what).await;
        tokio::time::sleep(std::time::Duration::from_secs(10_000)).await;
        assert_eq!(tree.status("a").fault_count, 0);
        let at = tokio::time::Instant::now();
        assert_eq!(tree.restart("a").await, Ok(2));
        assert_eq!(tenths_since(at), 50);
        probe.behave(|behaviour| behaviour.post_stop = Mode::Fine);
        tree.until_up("a", 2).await;
        tree.shut_down().await;
    }
}
