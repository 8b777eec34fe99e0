//! Children that depend on the ones before them (`rest_for_one`).

use std::time::Duration;

use nexus_actors::supervisor::{ChildSpec, GiveUp, Restart, Strategy};
use nexus_model::Health;
use tokio::time::{Instant, advance};

use crate::probe::{Do, Journal, Mode, Probe, Tree, tenths_since};

async fn four() -> ([Probe; 4], Tree) {
    let journal = Journal::default();
    let probes = ["a", "b", "c", "d"].map(|name| Probe::new(name, &journal));
    let tree = Tree::of(Strategy::RestForOne, &probes.each_ref()).await;
    (probes, tree)
}

#[tokio::test(start_paused = true)]
async fn each_child_is_started_when_the_one_before_is_up() {
    let journal = Journal::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| Probe::new(name, &journal));
    b.behave(|behaviour| behaviour.post_start = Mode::Fail);
    let specs = vec![a.spec(), b.spec(), c.spec()];
    let mut tree = Tree::grow(Strategy::RestForOne, &journal, specs).await;
    tree.until_faults("b", 1).await;
    assert_eq!(tree.status("c").generation, 0);
    b.behave(|behaviour| behaviour.post_start = Mode::Fine);
    tree.until_up("c", 1).await;
    assert_eq!(journal.words(), ["start a1", "up a1", "start b1", "gone b1", "start b2", "up b2", "start c1", "up c1"]);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_restarts_the_later_siblings_and_no_earlier_one() {
    let ([_, b, ..], mut tree) = four().await;
    b.tell(Do::Panic).await;
    tree.until_up("d", 2).await;
    assert_eq!(
        tree.journal.words(),
        [
            "gone b1", "stop d1", "gone d1", "stop c1", "gone c1", "start b2", "up b2", "start c2", "up c2",
            "start d2", "up d2"
        ]
    );
    for (name, restarts, faults) in [("a", 0, 0), ("b", 1, 1), ("c", 1, 0), ("d", 1, 0)] {
        let status = tree.status(name);
        assert_eq!((status.restart_count, status.fault_count), (restarts, faults), "{name}");
    }
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn later_siblings_are_stopped_during_the_back_off_not_after() {
    let ([a, _, c, _], mut tree) = four().await;
    c.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    a.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    tree.until_up("a", 2).await;
    // Killed after 5 s, which is longer than the back-off.
    assert_eq!(tenths_since(at), 50);
    c.behave(|behaviour| behaviour.post_stop = Mode::Fine);
    tree.until_up("d", 2).await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_earlier_fault_while_later_siblings_are_stopped_widens_the_circle() {
    let ([a, b, _, d], mut tree) = four().await;
    d.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    b.tell(Do::Panic).await;
    tree.until_faults("b", 1).await;
    a.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    d.behave(|behaviour| behaviour.post_stop = Mode::Fine);
    tree.until_up("d", 2).await;
    let words = tree.journal.starts_and_stops();
    assert_eq!(words, ["stop d1", "stop c1", "start a2", "start b2", "start c2", "start d2"]);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_on_request_takes_the_later_siblings_along() {
    let ([_, _, c, _], mut tree) = four().await;
    assert_eq!(tree.restart("c").await, Ok(2));
    tree.until_up("d", 2).await;
    let words = tree.journal.starts_and_stops();
    assert_eq!(words, ["stop d1", "stop c1", "start c2", "start d2"]);
    assert_eq!(tree.status("d").fault_count, 0);
    assert_eq!(c.generation().await, 2);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_disturbs_no_sibling() {
    let ([..], mut tree) = four().await;
    assert_eq!(tree.remove("b").await, Ok(()));
    assert_eq!(tree.journal.words(), ["stop b1", "gone b1"]);
    // The chain holds without it.
    assert_eq!(tree.restart("a").await, Ok(2));
    tree.until_up("d", 2).await;
    assert_eq!(tree.journal.starts_and_stops(), ["stop d1", "stop c1", "stop a1", "start a2", "start c2", "start d2"]);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_is_slow_to_be_removed_holds_nobody_up() {
    let ([a, b, ..], mut tree) = four().await;
    b.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    let supervisor = tree.supervisor.clone();
    let removal = tokio::spawn(async move {
        ractor::call!(supervisor, |reply| nexus_actors::supervisor::SupervisorMessage::Remove {
            name: "b".to_owned(),
            reply
        })
        .unwrap()
    });
    tokio::task::yield_now().await;
    a.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    tree.until_up("d", 2).await;
    assert_eq!(tenths_since(at), 10);
    assert_eq!(removal.await.unwrap(), Ok(()));
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_sibling_is_not_started_again() {
    let journal = Journal::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| Probe::new(name, &journal));
    let specs = vec![a.spec(), ChildSpec { restart: Restart::Temporary, ..b.spec() }, c.spec()];
    let mut tree = Tree::grow(Strategy::RestForOne, &journal, specs).await;
    tree.until_up("c", 1).await;
    journal.take();
    a.tell(Do::Panic).await;
    tree.until_up("c", 2).await;
    assert_eq!(journal.starts_and_stops(), ["stop c1", "stop b1", "start a2", "start c2"]);
    tree.until_removed("b").await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn siblings_of_a_child_that_gave_up_wait_with_its_health() {
    let journal = Journal::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| Probe::new(name, &journal));
    let specs = vec![a.spec(), ChildSpec { give_up: GiveUp::Mark(Health::Unmanaged), ..b.spec() }, c.spec()];
    let mut tree = Tree::grow(Strategy::RestForOne, &journal, specs).await;
    tree.until_up("c", 1).await;
    b.behave(|behaviour| behaviour.post_start = Mode::Fail);
    b.tell(Do::Panic).await;
    tree.until_faults("b", 3).await;
    assert_eq!(tree.status("c").health, Health::Restarting);
    tree.until("b", |status| status.health == Health::Unmanaged).await;
    tree.until("c", |status| status.health == Health::Unmanaged).await;
    assert_eq!((tree.status("a").health, tree.status("a").generation), (Health::Ok, 1));
    advance(Duration::from_secs(10_000)).await;
    assert_eq!(tree.status("c").generation, 1);

    b.behave(|behaviour| behaviour.post_start = Mode::Fine);
    assert_eq!(tree.reset("b").await, Ok(()));
    tree.until_up("c", 2).await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_added_waits_for_all_the_others() {
    let ([_, b, ..], mut tree) = four().await;
    b.tell(Do::Panic).await;
    tree.until_faults("b", 1).await;
    let e = Probe::new("e", &tree.journal);
    assert_eq!(tree.start(e.spec()).await, Ok(1));
    let words = tree.journal.words();
    assert_eq!(words[words.len() - 4..], ["start d2", "up d2", "start e1", "up e1"]);
    tree.shut_down().await;
}
