//! A supervisor's record of one child.

use nexus_model::restart::FailureWindow;
use ractor::{ActorCell, RpcReplyPort};
use tokio::{task::AbortHandle, time::Instant};

use super::{ChildSpec, RequestError, lease::Lessor};

/// One child, from its specification to what is going on with it.
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    pub(super) path: String,
    /// Counts phases: what was set in motion in an earlier one no longer counts.
    pub(super) epoch: u64,
    pub(super) phase: Phase,
    pub(super) intent: Intent,
    /// The incarnation that there is, if any, has to end.
    pub(super) must_end: Option<EndFor>,
    /// Not to be started before.
    pub(super) due: Instant,
    /// The number of the current or last incarnation; 0 before the first.
    pub(super) generation: u64,
    /// The number of the next one.
    pub(super) next_generation: u64,
    pub(super) faults: FailureWindow,
    /// It had too many faults, and has not been up for a whole window since.
    pub(super) given_up: bool,
    pub(super) lessor: Lessor,
    /// To be answered when it is up, or fails to be.
    pub(super) awaiting_up: Vec<RpcReplyPort<Result<u64, RequestError>>>,
    /// To be answered when it is gone.
    pub(super) awaiting_removal: Vec<RpcReplyPort<Result<(), RequestError>>>,
}

/// What the supervisor wants of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// To be up.
    Run,
    /// To stay down: it gave up.
    Rest,
    /// To end and be forgotten.
    Forget,
}

/// Why an incarnation has to end that is to be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndFor {
    /// Somebody asked for a restart.
    Request,
    /// It depends on an earlier sibling that is not up.
    Sibling,
}

/// What is going on with a child.
pub(super) enum Phase {
    /// There is no incarnation. With a timer it is in back-off, else it waits for its turn or for a request.
    Idle { _back_off: Option<Task> },
    /// The start function runs.
    Starting { _start: Task, deadline: Task },
    /// The actor is there; its `post_start` has not returned.
    Settling { actor: ActorCell, _deadline: Task },
    /// It is up.
    Up { actor: ActorCell, since: Instant },
    /// It was asked to stop, and when that took too long, killed.
    Stopping { actor: ActorCell, killed: bool, _deadline: Task },
    /// It has ended; its last lease is awaited.
    Releasing { was_claimed: bool, _wait: Task },
}

impl Phase {
    pub(super) const IDLE: Self = Self::Idle { _back_off: None };

    /// The actor, when there is one.
    pub(super) const fn actor(&self) -> Option<&ActorCell> {
        match self {
            Self::Settling { actor, .. } | Self::Up { actor, .. } | Self::Stopping { actor, .. } => Some(actor),
            Self::Idle { .. } | Self::Starting { .. } | Self::Releasing { .. } => None,
        }
    }
}

/// A task that ends with the phase that it was started for.
pub(super) struct Task(pub(super) AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Child {
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    pub(super) fn answer_up(&mut self, outcome: &Result<u64, RequestError>) {
        for reply in self.awaiting_up.drain(..) {
            // The caller may have given up waiting.
            let _ = reply.send(outcome.clone());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(actor) = self.phase.actor() else { return };
        if let Some(slot) = &self.spec.slot {
            slot.empty(actor.get_id());
        }
        // The supervisor itself was killed. ractor kills its children then, but for those that are stopping already, which
        // would go on for ever if their `post_stop` hangs.
        actor.kill();
    }
}
