//! What a supervisor is asked.

use ractor::{ActorCell, RpcReplyPort};

use super::ChildSpec;

/// The requests of a supervisor. None blocks it: an answer comes when the thing is done, while it goes on supervising.
///
/// A supervisor that is closing answers every request with [`RequestError::Closing`]; one that is dead drops the reply.
#[derive(Debug)]
pub enum SupervisorMessage {
    /// Adds a child after the others and starts it (under [`RestForOne`](super::Strategy::RestForOne) when all the
    /// others are up). Answers with the first outcome: its generation when it is up, or
    /// [`RequestError::Faulted`], after which it is restarted as its specification says.
    Start(Box<ChildSpec>, RpcReplyPort<Result<u64, RequestError>>),
    /// Stops a child, in whatever condition it is, and forgets it; its siblings don't notice. A child in back-off is
    /// never started again. Answers when it is gone.
    Remove {
        /// The child.
        name: String,
        /// [`RequestError::Unknown`].
        reply: RpcReplyPort<Result<(), RequestError>>,
    },
    /// Replaces the incarnation of a child by a new one, which counts as no fault. A child in back-off, or given up, is
    /// started at once, but its faults stay counted. What hangs on it under [`RestForOne`](super::Strategy::RestForOne)
    /// is stopped before and started after. Answers as [`Start`](Self::Start) does.
    Restart {
        /// The child.
        name: String,
        /// [`RequestError::Unknown`], [`RequestError::Faulted`], [`RequestError::Removed`].
        reply: RpcReplyPort<Result<u64, RequestError>>,
    },
    /// Forgets the faults of a child: its back-off begins anew, and if it is in back-off or given up, it is started at
    /// once. Its counters stay, as they only ever go up. Answers at once.
    Reset {
        /// The child.
        name: String,
        /// [`RequestError::Unknown`].
        reply: RpcReplyPort<Result<(), RequestError>>,
    },
    /// Stops the children in reverse order, each within its [`shutdown`](ChildSpec::shutdown), then killed; then the
    /// supervisor ends. Answers when the last child is gone. This is how a supervisor is stopped: `ActorCell::stop`
    /// would kill its children.
    Shutdown {
        /// Answered also when the supervisor was closing already.
        reply: Option<RpcReplyPort<()>>,
    },
    /// From the supervisor's own timers and tasks.
    Internal(Internal),
}

/// From a supervisor's own timers and tasks; nobody else can make one.
#[derive(Debug)]
pub struct Internal {
    pub(super) child: u64,
    pub(super) epoch: u64,
    pub(super) event: InternalEvent,
}

#[derive(Debug)]
pub(super) enum InternalEvent {
    /// The start function returned, or failed for this reason.
    Started(Result<ActorCell, String>),
    /// The time allowed for the phase, or its wait, is over.
    Due,
    /// No lease of the last incarnation is left, or it was waited for long enough (false).
    Released(bool),
}

/// Why a supervisor doesn't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A child's name is part of its path.
    #[error("`{0}` can't be the name of an actor: it must not be empty or contain a slash")]
    InvalidName(String),
    /// There is such a child already, or it is still being removed.
    #[error("there is already a child named `{0}`")]
    Exists(String),
    /// There is no such child.
    #[error("there is no child named `{0}`")]
    Unknown(String),
    /// The child did not come up; it is still supervised.
    #[error("the child failed to start: {reason}")]
    Faulted {
        /// As in its status.
        reason: String,
    },
    /// The child was removed meanwhile.
    #[error("the child was removed before it was up")]
    Removed,
    /// The supervisor is stopping.
    #[error("the supervisor is stopping")]
    Closing,
}
