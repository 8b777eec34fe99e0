//! Supervisors below supervisors.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nexus_actors::supervisor::{
    ActorSlot, ChildSpec, GiveUp, RootEnd, StatusChange, Strategy, SupervisorConfig, SupervisorMessage,
};
use nexus_model::Health;
use tokio::time::Instant;

use crate::probe::{Do, Journal, Mode, Probe, Tree, tenths_since};

type Names = Arc<Mutex<Vec<Probe>>>;

/// A supervisor named `team` of the probes that `members` holds when it starts.
fn team(members: &Names, slot: &ActorSlot<SupervisorMessage>, give_up: GiveUp) -> ChildSpec {
    let (members, policy) = (Arc::clone(members), members.lock().unwrap()[0].spec());
    let spec = ChildSpec::supervisor("team", move |_| {
        let members = members.lock().unwrap();
        let children = members.iter().map(|member| ChildSpec { give_up, ..member.spec() }).collect();
        async move { Ok(SupervisorConfig { strategy: Strategy::OneForOne, children }) }
    });
    ChildSpec { backoff: policy.backoff, intensity: policy.intensity, ..spec }.published_in(slot)
}

struct Nest {
    tree: Tree,
    members: Names,
    sibling: Probe,
    slot: ActorSlot<SupervisorMessage>,
    journal: Journal,
}

impl Nest {
    async fn new(names: &[&'static str], give_up: GiveUp) -> Self {
        let journal = Journal::default();
        let members: Names = Arc::new(Mutex::new(names.iter().map(|name| Probe::new(name, &journal)).collect()));
        let slot = ActorSlot::new();
        let sibling = Probe::new("sibling", &journal);
        let specs = vec![sibling.spec(), team(&members, &slot, give_up)];
        let mut tree = Tree::grow(Strategy::OneForOne, &journal, specs).await;
        tree.until_up("sibling", 1).await;
        for name in names {
            tree.until_up(&format!("team/{name}"), 1).await;
        }
        journal.take();
        Self { tree, members, sibling, slot, journal }
    }

    fn member(&self, index: usize) -> Probe {
        self.members.lock().unwrap()[index].clone()
    }

    /// Lets the first member flap until it gives up.
    async fn exhaust(&mut self) {
        let flapping = self.member(0);
        flapping.behave(|behaviour| behaviour.post_start = Mode::Fail);
        flapping.tell(Do::Panic).await;
        self.tree.until(&format!("team/{}", flapping.name), |status| status.fault_count == 4).await;
        flapping.behave(|behaviour| behaviour.post_start = Mode::Fine);
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_whose_child_gives_up_stops_the_others_and_fails_towards_its_own() {
    let mut nest = Nest::new(&["a", "b", "c"], GiveUp::Escalate).await;
    nest.exhaust().await;
    let fault = nest.tree.until_faults("team", 1).await;
    assert_eq!(fault.last_fault_reason, "`root/team/a` had 4 faults within 60 s, the last one: error in post_start");
    let up = nest.tree.until_up("team", 2).await;
    assert_eq!(up.restart_count, 1);
    for name in ["a", "b", "c"] {
        nest.tree.until(&format!("team/{name}"), |status| status.health == Health::Ok).await;
    }
    let words = nest.journal.starts_and_stops();
    assert_eq!(words[3..], ["stop c1", "stop b1", "start a5", "start b2", "start c2"]);
    // The sibling of the team has noticed nothing.
    assert_eq!(nest.sibling.generation().await, 1);
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn generations_go_on_after_a_restart_of_the_supervisor() {
    let mut nest = Nest::new(&["a", "b"], GiveUp::Escalate).await;
    nest.slot.now().unwrap().kill();
    nest.tree.until_up("team/a", 2).await;
    nest.tree.until_up("team/b", 2).await;
    let status = nest.tree.until_up("team", 2).await;
    assert_eq!(status.last_fault_reason, "it was killed");
    assert_eq!(nest.member(0).generation().await, 2);
    // No row came or went.
    nest.tree.listen();
    let added = nest.tree.history.iter().filter(|change| matches!(change, StatusChange::Added(_))).count();
    assert_eq!(added, 5);
    assert!(!nest.tree.history.iter().any(|change| matches!(change, StatusChange::Removed(_))));
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_below_a_supervisor_that_is_down_is_not_well_either() {
    let mut nest = Nest::new(&["a"], GiveUp::Escalate).await;
    let (_, reporter) = nest.member(0).context().await;
    nest.slot.now().unwrap().kill();
    nest.tree.until("team/a", |status| status.health == Health::Restarting).await;
    reporter.set_health(Health::Ok);
    assert_eq!(nest.tree.status("team/a").health, Health::Restarting);
    assert_eq!(nest.member(0).slot.now(), None);
    nest.tree.until_up("team/a", 2).await;
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_supervisor_has_the_children_that_its_configuration_names_then() {
    let mut nest = Nest::new(&["a", "b"], GiveUp::Escalate).await;
    let added = Probe::new("added", &nest.journal);
    let team = nest.slot.now().unwrap();
    let spec = added.spec();
    ractor::call!(team, |reply| SupervisorMessage::Start(Box::new(spec), reply)).unwrap().unwrap();
    let new = Probe::new("new", &nest.journal);
    {
        let mut members = nest.members.lock().unwrap();
        members.remove(0);
        members.push(new);
    }
    nest.slot.now().unwrap().kill();
    nest.tree.until_removed("team/a").await;
    nest.tree.until_removed("team/added").await;
    nest.tree.until_up("team/b", 2).await;
    nest.tree.until_up("team/new", 1).await;
    nest.tree.shut_down().await;
}

/// The lease of a child is one of its supervisor, too.
#[tokio::test(start_paused = true)]
async fn a_supervisor_is_not_restarted_before_the_last_of_its_subtree_is_gone() {
    let mut nest = Nest::new(&["a"], GiveUp::Escalate).await;
    let (lease, _) = nest.member(0).context().await;
    nest.slot.now().unwrap().kill();
    nest.tree.until_faults("team", 1).await;
    let at = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(lease);
    });
    nest.tree.until_up("team/a", 2).await;
    assert_eq!(tenths_since(at), 200);
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_removed_stops_its_children_in_order() {
    let mut nest = Nest::new(&["a", "b", "c"], GiveUp::Escalate).await;
    assert_eq!(nest.tree.remove("team").await, Ok(()));
    assert_eq!(nest.journal.starts_and_stops(), ["stop c1", "stop b1", "stop a1"]);
    nest.tree.listen();
    let removed: Vec<_> = nest
        .tree
        .history
        .iter()
        .filter_map(|change| match change {
            StatusChange::Removed(path) => Some(path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(removed, ["root/team/c", "root/team/b", "root/team/a", "root/team"]);
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_takes_too_long_to_stop_is_killed_with_its_children() {
    let nest = Nest::new(&["a", "b"], GiveUp::Escalate).await;
    let slow = Probe::new("slow", &nest.journal);
    slow.behave(|behaviour| behaviour.post_stop = Mode::Hang);
    let spec = ChildSpec { shutdown: Duration::from_secs(3600), ..slow.spec() };
    let team = nest.slot.now().unwrap();
    ractor::call!(team, |reply| SupervisorMessage::Start(Box::new(spec), reply)).unwrap().unwrap();
    nest.journal.take();
    let at = Instant::now();
    assert_eq!(nest.tree.remove("team").await, Ok(()));
    assert_eq!(tenths_since(at), 600);
    let mut words = nest.journal.words();
    words.sort();
    assert_eq!(words, ["gone a1", "gone b1", "gone slow1", "stop slow1"]);
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_ends_unasked_is_restarted() {
    let mut nest = Nest::new(&["a"], GiveUp::Escalate).await;
    let team = nest.slot.now().unwrap();
    ractor::call!(team, |reply| SupervisorMessage::Shutdown { reply: Some(reply) }).unwrap();
    assert_eq!(nest.tree.until_faults("team", 1).await.last_fault_reason, "it stopped unasked");
    nest.tree.until_up("team/a", 2).await;
    nest.tree.shut_down().await;
}

/// `stop` is ractor's, and ractor kills the children of whatever stops.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_stopped_past_its_supervisor_kills_its_children() {
    let mut nest = Nest::new(&["a"], GiveUp::Escalate).await;
    nest.slot.now().unwrap().stop(None);
    nest.tree.until_up("team/a", 2).await;
    assert_eq!(nest.journal.words(), ["gone a1", "start a2", "up a2"]);
    assert_eq!(nest.tree.status("team").fault_count, 1);
    nest.tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_whose_child_gives_up_ends_and_says_so() {
    let journal = Journal::default();
    let (calm, flapping) = (Probe::new("a", &journal), Probe::new("b", &journal));
    flapping.behave(|behaviour| behaviour.post_start = Mode::Fail);
    let specs = vec![calm.spec(), ChildSpec { give_up: GiveUp::Escalate, ..flapping.spec() }];
    let mut tree = Tree::grow(Strategy::RestForOne, &journal, specs).await;
    let RootEnd::GaveUp(gave_up) = tree.root.take().unwrap().ended().await else { panic!("another end") };
    assert_eq!((gave_up.path.as_str(), gave_up.faults), ("root/b", 4));
    assert_eq!(gave_up.reason, "error in post_start");
    let words = journal.words();
    assert_eq!(words[words.len() - 2..], ["stop a1", "gone a1"]);
    tree.listen();
    assert!(tree.told.is_empty());
}

#[tokio::test(start_paused = true)]
async fn escalation_goes_up_to_the_root() {
    let mut nest = Nest::new(&["a"], GiveUp::Escalate).await;
    nest.member(0).behave(|behaviour| behaviour.post_start = Mode::Fail);
    nest.member(0).tell(Do::Panic).await;
    let RootEnd::GaveUp(gave_up) = nest.tree.root.take().unwrap().ended().await else { panic!("another end") };
    assert_eq!(gave_up.path, "root/team");
    assert!(gave_up.reason.starts_with("`root/team/a` had 4 faults within 60 s"), "{}", gave_up.reason);
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_killed_says_so_and_leaves_nothing_on_the_board() {
    let mut nest = Nest::new(&["a"], GiveUp::Escalate).await;
    nest.tree.supervisor.kill();
    assert!(matches!(nest.tree.root.take().unwrap().ended().await, RootEnd::Killed));
    nest.tree.listen();
    assert!(nest.tree.told.is_empty());
    assert_eq!(nest.sibling.slot.now(), None);
    assert_eq!(nest.slot.now(), None);
}
