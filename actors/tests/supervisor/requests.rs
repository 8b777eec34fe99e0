//! What a supervisor is asked, in whatever condition the child is.

use std::time::Duration;

use nexus_actors::supervisor::{ChildSpec, RequestError, RootEnd, Strategy, SupervisorMessage};
use nexus_model::Health;
use tokio::time::{Instant, advance};

use crate::probe::{Do, Journal, Mode, Probe, Tree, tenths_since};

async fn one() -> (Probe, Tree) {
    let probe = Probe::new("a", &Journal::default());
    let tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    (probe, tree)
}

#[tokio::test(start_paused = true)]
async fn a_name_must_be_valid_and_free() {
    let (probe, tree) = one().await;
    assert_eq!(tree.start(probe.spec()).await, Err(RequestError::Exists("a".to_owned())));
    for name in ["", "a/b", "/"] {
        let spec = ChildSpec { name: name.to_owned(), ..probe.spec() };
        assert_eq!(tree.start(spec).await, Err(RequestError::InvalidName(name.to_owned())));
    }
    for request in [tree.restart("b").await.map(drop), tree.remove("b").await, tree.reset("b").await] {
        assert_eq!(request, Err(RequestError::Unknown("b".to_owned())));
    }
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_with_bad_names_starts_nothing() {
    use nexus_actors::supervisor::{Root, StatusBoard, SupervisorConfig};
    let probe = Probe::new("a", &Journal::default());
    for children in
        [vec![probe.spec(), probe.spec()], vec![probe.spec(), ChildSpec { name: "x/y".to_owned(), ..probe.spec() }]]
    {
        let (sink, mut changes) = tokio::sync::mpsc::unbounded_channel();
        let board = StatusBoard::new(sink);
        let config = SupervisorConfig { strategy: Strategy::OneForOne, children };
        assert!(Root::spawn("root", config, board.clone()).await.is_err());
        assert!(board.all().is_empty());
        drop(board);
        while changes.recv().await.is_some() {}
    }
    assert!(probe.journal.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_child_that_was_removed_is_stopped_and_forgotten() {
    let (probe, mut tree) = one().await;
    assert_eq!(tree.remove("a").await, Ok(()));
    assert_eq!(probe.journal.words(), ["stop a1", "gone a1"]);
    assert_eq!(probe.slot.now(), None);
    tree.until_removed("a").await;
    assert_eq!(tree.remove("a").await, Err(RequestError::Unknown("a".to_owned())));
    assert_eq!(tree.start(probe.spec()).await, Ok(1));
    tree.shut_down().await;
}

/// In `ractor-supervisor` 0.2.0 such a child came back.
#[tokio::test(start_paused = true)]
async fn a_child_that_was_removed_in_back_off_never_comes_back() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    assert_eq!(tree.remove("a").await, Ok(()));
    assert_eq!(tenths_since(at), 0);
    probe.journal.take();
    advance(Duration::from_secs(1000)).await;
    assert!(probe.journal.take().is_empty());
    tree.shut_down().await;
}

/// The request and the end of the back-off at the same instant, in either order.
#[tokio::test(start_paused = true)]
async fn a_removal_that_races_with_the_end_of_back_off_wins() {
    for offset in [999, 1000, 1001] {
        let (probe, mut tree) = one().await;
        probe.tell(Do::Panic).await;
        tree.until_faults("a", 1).await;
        let supervisor = tree.supervisor.clone();
        let remove = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(offset)).await;
            ractor::call!(supervisor, |reply| SupervisorMessage::Remove { name: "a".to_owned(), reply }).unwrap()
        });
        assert_eq!(remove.await.unwrap(), Ok(()));
        let words = probe.journal.words();
        let count = |what: &str| words.iter().filter(|word| word.starts_with(what)).count();
        assert_eq!(count("start"), count("gone") - 1, "{offset}: {words:?}");
        assert_eq!(tree.supervisor.get_children(), []);
        advance(Duration::from_secs(1000)).await;
        assert!(probe.journal.take().is_empty());
        tree.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_ends_a_start_that_hangs() {
    let (probe, tree) = one().await;
    let hanging = Probe::new("b", &probe.journal);
    hanging.behave(|behaviour| behaviour.pre_start = Mode::Hang);
    let supervisor = tree.supervisor.clone();
    let spec = hanging.spec();
    let start = tokio::spawn(async move {
        ractor::call!(supervisor, |reply| SupervisorMessage::Start(Box::new(spec), reply)).unwrap()
    });
    while !probe.journal.words().contains(&"start b1".to_owned()) {
        tokio::task::yield_now().await;
    }
    let at = Instant::now();
    assert_eq!(tree.remove("b").await, Ok(()));
    assert_eq!(tenths_since(at), 0);
    assert_eq!(start.await.unwrap(), Err(RequestError::Removed));
    assert_eq!(tree.supervisor.get_children().len(), 1);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_slow_to_stop_is_killed() {
    let (probe, tree) = one().await;
    probe.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    let at = Instant::now();
    let (first, second) = tokio::join!(tree.remove("a"), tree.remove("a"));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(tenths_since(at), 50);
    assert_eq!(probe.journal.words(), ["stop a1", "gone a1"]);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_until_its_child_is_gone() {
    let (probe, tree) = one().await;
    probe.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    let supervisor = tree.supervisor.clone();
    let remove = |reply| SupervisorMessage::Remove { name: "a".to_owned(), reply };
    let removal = tokio::spawn(async move { ractor::call!(supervisor, remove).unwrap() });
    tokio::task::yield_now().await;
    assert_eq!(tree.start(probe.spec()).await, Err(RequestError::Exists("a".to_owned())));
    assert_eq!(tree.restart("a").await, Err(RequestError::Removed));
    assert_eq!(tree.reset("a").await, Ok(()));
    assert_eq!(removal.await.unwrap(), Ok(()));
    assert_eq!(tree.start(probe.spec()).await, Ok(1));
    probe.behave(|behaviour| behaviour.post_stop = Mode::Fine);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_on_request_is_no_fault() {
    let (probe, mut tree) = one().await;
    let at = Instant::now();
    for generation in 2..20 {
        assert_eq!(tree.restart("a").await, Ok(generation));
        assert_eq!(probe.generation().await, generation);
    }
    assert_eq!(tenths_since(at), 0);
    assert_eq!(probe.journal.words()[..5], ["stop a1", "gone a1", "start a2", "up a2", "stop a2"]);
    let status = tree.until_up("a", 19).await;
    assert_eq!((status.restart_count, status.fault_count, status.failure_count), (18, 0, 0));
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_ends_back_off_and_its_faults_stay_counted() {
    let (probe, mut tree) = one().await;
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 1).await;
    let at = Instant::now();
    assert_eq!(tree.restart("a").await, Ok(2));
    assert_eq!(tenths_since(at), 0);
    probe.tell(Do::Panic).await;
    tree.until_faults("a", 2).await;
    let at = Instant::now();
    tree.until_up("a", 3).await;
    assert_eq!(tenths_since(at), 20);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_a_child_that_does_not_come_up_says_why() {
    let (probe, mut tree) = one().await;
    probe.behave(|behaviour| behaviour.post_start = Mode::Fail);
    let reason = "error in post_start".to_owned();
    assert_eq!(tree.restart("a").await, Err(RequestError::Faulted { reason }));
    probe.behave(|behaviour| behaviour.post_start = Mode::Fine);
    tree.until_up("a", 3).await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_back_off_and_forgets_the_faults() {
    let (probe, mut tree) = one().await;
    for _ in 0..10 {
        probe.tell(Do::Panic).await;
        let faults = tree.status("a").fault_count;
        let fault = tree.until("a", |status| status.fault_count > faults).await;
        assert_eq!(fault.health, Health::Restarting);
        let at = Instant::now();
        assert_eq!(tree.reset("a").await, Ok(()));
        tree.until_up("a", fault.generation + 1).await;
        assert_eq!(tenths_since(at), 0);
    }
    assert_eq!(tree.status("a").fault_count, 10);
    // A healthy child doesn't notice.
    let actor = probe.actor().await;
    assert_eq!(tree.reset("a").await, Ok(()));
    assert_eq!(probe.generation().await, 11);
    assert_eq!(probe.actor().await, actor);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn children_are_shut_down_in_reverse_each_within_its_time() {
    let journal = Journal::default();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| Probe::new(name, &journal));
    let mut tree = Tree::of(Strategy::OneForOne, &[&a, &b, &c, &d]).await;
    b.tell(Do::Panic).await;
    tree.until_faults("b", 1).await;
    c.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    journal.take();
    let at = Instant::now();
    tree.shut_down().await;
    assert_eq!(tenths_since(at), 50);
    assert_eq!(journal.words(), ["stop d1", "gone d1", "stop c1", "gone c1", "stop a1", "gone a1"]);
    for probe in [a, b, c, d] {
        assert_eq!(probe.slot.now(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_closing_refuses_what_it_is_asked() {
    let journal = Journal::default();
    let (slow, back_off, starting) = (Probe::new("a", &journal), Probe::new("b", &journal), Probe::new("c", &journal));
    let mut tree = Tree::of(Strategy::OneForOne, &[&slow, &back_off]).await;
    slow.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    starting.behave(|behaviour| behaviour.post_start = Mode::Hang);
    back_off.tell(Do::Panic).await;
    tree.until_faults("b", 1).await;
    let (supervisor, spec) = (tree.supervisor.clone(), starting.spec());
    let start = tokio::spawn(async move {
        ractor::call!(supervisor, |reply| SupervisorMessage::Start(Box::new(spec), reply)).unwrap()
    });
    tokio::task::yield_now().await;

    let shut_down = |reply| SupervisorMessage::Shutdown { reply: Some(reply) };
    let (first, second) = (tree.supervisor.clone(), tree.supervisor.clone());
    let first = tokio::spawn(async move { ractor::call!(first, shut_down).unwrap() });
    let second = tokio::spawn(async move { ractor::call!(second, shut_down).unwrap() });
    tokio::task::yield_now().await;
    assert_eq!(tree.start(Probe::new("d", &journal).spec()).await, Err(RequestError::Closing));
    assert_eq!(tree.restart("b").await, Err(RequestError::Closing));
    assert_eq!(tree.remove("b").await, Err(RequestError::Closing));
    assert_eq!(tree.reset("b").await, Err(RequestError::Closing));
    assert_eq!(start.await.unwrap(), Err(RequestError::Closing));
    first.await.unwrap();
    second.await.unwrap();
    assert!(matches!(tree.root.take().unwrap().ended().await, RootEnd::Shutdown));
    assert!(!journal.words().contains(&"start b2".to_owned()));

    // Dead, it says so at once.
    let reply = ractor::call!(tree.supervisor, |reply| SupervisorMessage::Reset { name: "a".to_owned(), reply });
    assert!(reply.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_runs_when_the_supervisor_closes_is_answered() {
    let (probe, mut tree) = one().await;
    probe.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    let supervisor = tree.supervisor.clone();
    let remove = |reply| SupervisorMessage::Remove { name: "a".to_owned(), reply };
    let removal = tokio::spawn(async move { ractor::call!(supervisor, remove).unwrap() });
    tokio::task::yield_now().await;
    tree.listen();
    tree.shut_down().await;
    assert_eq!(removal.await.unwrap(), Ok(()));
}
