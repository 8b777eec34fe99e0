//! How actors are, on its way to whoever shows it and to whoever writes it down.

use std::collections::BTreeMap;

use nexus_model::{EventKind, Health};
use nexus_store::NewEvent;
use tokio::sync::mpsc;

use crate::{
    recorder::Recorder,
    snapshot::Board,
    subject::Subject,
    supervisor::{ChildStatus, StatusChange},
};

/// Carries the statuses of all actors to the board, and what happened to them into the store.
pub(crate) async fn carry(board: Board, recorder: Recorder, mut changes: mpsc::UnboundedReceiver<StatusChange>) {
    let mut known: BTreeMap<String, ChildStatus> = BTreeMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            StatusChange::Added(status) | StatusChange::Changed(status) => {
                if let Some(before) = known.insert(status.path.clone(), status.clone()) {
                    events(&before, &status, &board).into_iter().for_each(|event| recorder.event(event));
                }
                board.publish_actor(status.path.clone(), status);
            }
            StatusChange::Removed(path) => {
                known.remove(&path);
                board.withdraw_actor(&path);
            }
        }
    }
}

/// What happened to an actor that was like this before and is like that now.
fn events(before: &ChildStatus, now: &ChildStatus, board: &Board) -> Vec<NewEvent> {
    let subject = Subject::Actor(now.path.clone());
    let event = |kind, detail: String| NewEvent {
        vm: subject.vm(board),
        from: before.health.to_string(),
        to: now.health.to_string(),
        detail,
        ..NewEvent::now(kind, subject.to_string())
    };
    let mut events = Vec::new();
    let faulted = now.fault_count > before.fault_count;
    if faulted {
        events.push(event(EventKind::ActorFault, now.last_fault_reason.clone()));
    }
    // What is tried again at once, or after its back-off, is restarting.
    let given_up = faulted && now.health != Health::Restarting;
    if given_up && before.health != now.health {
        events.push(event(EventKind::ActorGaveUp, format!("after {} faults", now.fault_count)));
    }
    let came_up = before.started_at.is_never() && !now.started_at.is_never();
    if came_up && now.restart_count > 0 {
        events.push(event(EventKind::ActorRestarted, format!("generation {}", now.generation)));
    }
    events
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nexus_model::{BackendKind, Timestamp};

    use super::*;
    use crate::snapshot::ManagerSnapshot;

    fn board() -> Board {
        Board::new(ManagerSnapshot {
            vmm_available: Vec::new(),
            storage_path: PathBuf::new(),
            storage_backend: BackendKind::Copy,
            database_path: PathBuf::new(),
            schema_version: 0,
            table_count: 0,
            default_kernel: None,
            draining: false,
        })
    }

    fn up() -> ChildStatus {
        ChildStatus {
            path: "root/vms/web/connections/connection-1".to_owned(),
            supervisor: None,
            order: 1,
            strategy: None,
            intensity: None,
            health: Health::Ok,
            generation: 1,
            restart_count: 0,
            failure_count: 0,
            fault_count: 0,
            last_fault_at: Timestamp::NEVER,
            last_fault_reason: String::new(),
            next_restart_at: Timestamp::NEVER,
            started_at: Timestamp(1),
        }
    }

    fn told(before: &ChildStatus, now: &ChildStatus) -> Vec<(EventKind, String)> {
        let events = events(before, now, &board());
        for event in &events {
            assert_eq!(event.subject, "vm/web/connection/1");
            assert_eq!(event.vm.as_ref().map(|vm| vm.name.as_str()), Some("web"));
        }
        events.into_iter().map(|event| (event.kind, format!("{}→{} {}", event.from, event.to, event.detail))).collect()
    }

    #[test]
    fn a_fault_and_the_restart_after_it_are_two_events() {
        let down = ChildStatus {
            health: Health::Restarting,
            fault_count: 1,
            last_fault_reason: "it panicked".to_owned(),
            started_at: Timestamp::NEVER,
            ..up()
        };
        assert_eq!(told(&up(), &down), [(EventKind::ActorFault, "ok→restarting it panicked".to_owned())]);
        let starting = ChildStatus { generation: 2, restart_count: 1, ..down.clone() };
        assert!(told(&down, &starting).is_empty());
        let again = ChildStatus { health: Health::Ok, started_at: Timestamp(2), ..starting.clone() };
        assert_eq!(told(&starting, &again), [(EventKind::ActorRestarted, "restarting→ok generation 2".to_owned())]);
    }

    #[test]
    fn one_fault_too_many_is_told_once() {
        let before = ChildStatus { health: Health::Restarting, fault_count: 9, started_at: Timestamp::NEVER, ..up() };
        let gave_up = ChildStatus {
            health: Health::Failed,
            fault_count: 10,
            last_fault_reason: "again".to_owned(),
            ..before.clone()
        };
        let failed = |detail: &str| format!("restarting→failed {detail}");
        assert_eq!(
            told(&before, &gave_up),
            [(EventKind::ActorFault, failed("again")), (EventKind::ActorGaveUp, failed("after 10 faults"))]
        );
        // Tried slowly from then on, it faults and has not given up anew.
        let still = ChildStatus { fault_count: 11, ..gave_up.clone() };
        assert_eq!(told(&gave_up, &still).len(), 1);
    }

    #[test]
    fn a_first_start_and_a_failure_of_the_thing_are_no_events_of_the_actor() {
        let new = ChildStatus { generation: 0, health: Health::Restarting, started_at: Timestamp::NEVER, ..up() };
        assert!(told(&new, &up()).is_empty());
        assert!(told(&up(), &ChildStatus { health: Health::Unreachable, failure_count: 1, ..up() }).is_empty());
    }
}
