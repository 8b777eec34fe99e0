//! What the board says, and what actors say of themselves.

use nexus_actors::supervisor::{ChildSpec, StatusChange, Strategy};
use nexus_model::Health;

use crate::probe::{Do, Journal, Probe, Tree};

#[tokio::test(start_paused = true)]
async fn an_actor_tells_how_it_is() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    probe.tell(Do::Report(Health::Unreachable)).await;
    tree.until("a", |status| status.health == Health::Unreachable).await;
    for _ in 0..3 {
        probe.tell(Do::CountFailure).await;
    }
    let status = tree.until("a", |status| status.failure_count == 3).await;
    assert_eq!((status.fault_count, status.restart_count, status.health), (0, 0, Health::Unreachable));
    probe.tell(Do::Report(Health::Ok)).await;
    tree.until("a", |status| status.health == Health::Ok).await;

    // A new incarnation is well until it says otherwise; what the old one counted stays.
    probe.tell(Do::Report(Health::Degraded)).await;
    probe.tell(Do::Panic).await;
    let status = tree.until_up("a", 2).await;
    assert_eq!(status.failure_count, 3);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_actor_says_before_it_is_up_shows_when_it_is() {
    let probe = Probe::new("a", &Journal::default());
    probe.behave(|behaviour| behaviour.reports = Some(Health::Degraded));
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![probe.spec()]).await;
    tree.until("a", |status| !status.started_at.is_never()).await;
    let healths: Vec<Health> = tree
        .history
        .iter()
        .filter_map(|change| match change {
            StatusChange::Added(status) | StatusChange::Changed(status) if status.path == "root/a" => {
                Some(status.health)
            }
            _ => None,
        })
        .collect();
    assert_eq!(healths, [Health::Restarting, Health::Restarting, Health::Degraded]);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_listens_to_an_incarnation_that_has_ended() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::OneForOne, &[&probe]).await;
    let (lease, reporter) = probe.context().await;
    drop(lease);
    probe.tell(Do::Panic).await;
    let fault = tree.until_faults("a", 1).await;
    reporter.set_health(Health::Ok);
    reporter.count_failure();
    assert_eq!(tree.status("a"), fault);
    let up = tree.until_up("a", 2).await;
    reporter.set_health(Health::Degraded);
    reporter.count_failure();
    assert_eq!(tree.status("a"), up);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn the_board_shows_the_tree() {
    let probe = Probe::new("a", &Journal::default());
    let mut tree = Tree::of(Strategy::RestForOne, &[&probe]).await;
    let root = tree.board.get("root").unwrap();
    assert_eq!((root.supervisor, root.strategy, root.health), (None, Some(Strategy::RestForOne), Health::Ok));
    assert_eq!((root.intensity, root.generation), (None, 1));
    let a = tree.status("a");
    assert_eq!((a.supervisor.as_deref(), a.strategy, a.generation), (Some("root"), None, 1));
    assert_eq!(a.intensity, Some(probe.spec().intensity));
    assert!(a.last_fault_at.is_never() && a.last_fault_reason.is_empty());
    tree.until_up("a", 1).await;
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn children_have_the_order_of_their_start() {
    let journal = Journal::default();
    let (first, second) = (Probe::new("z", &journal), Probe::new("a", &journal));
    let mut tree = Tree::of(Strategy::OneForOne, &[&first, &second]).await;
    let orders = [tree.status("z").order, tree.status("a").order];
    assert!(orders.is_sorted_by(|one, next| one < next), "{orders:?}");
    first.tell(Do::Panic).await;
    assert_eq!(tree.until_up("z", 2).await.order, orders[0]);
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_board_works_without_listeners() {
    use nexus_actors::supervisor::{Root, RootEnd, StatusBoard, SupervisorConfig, SupervisorMessage};
    let probe = Probe::new("a", &Journal::default());
    let (sink, changes) = tokio::sync::mpsc::unbounded_channel();
    drop(changes);
    let board = StatusBoard::new(sink);
    let children = vec![ChildSpec { generation: 7, ..probe.spec() }];
    let config = SupervisorConfig { strategy: Strategy::OneForOne, children };
    let root = Root::spawn("root", config, board.clone()).await.unwrap();
    assert_eq!(probe.generation().await, 7);
    assert_eq!(board.get("root/a").unwrap().health, Health::Ok);
    ractor::call!(root.actor, |reply| SupervisorMessage::Shutdown { reply: Some(reply) }).unwrap();
    assert!(matches!(root.ended().await, RootEnd::Shutdown));
}
