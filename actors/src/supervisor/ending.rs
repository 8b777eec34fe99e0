//! How an incarnation ended, and what is left of it.

use std::{
    any::Any,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ractor::{ActorCell, SupervisionEvent};

use super::Lease;

/// The longest reason that is kept, in characters: an error may carry text from outside.
const REASON_MAX: usize = 500;

/// The reasons ractor gives when it was not the actor that decided to end.
const KILLED: [&str; 2] = ["killed", "actor_task_cancelled"];

/// The end of one incarnation.
pub(super) struct Ending {
    pub(super) cause: Cause,
    pub(super) remains: Remains,
}

/// Why an incarnation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It stopped, and had said why or not.
    Stopped(Option<String>),
    /// It was killed.
    Killed,
    /// It panicked or returned an error.
    Failed(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(None) => f.write_str("it stopped unasked"),
            Self::Stopped(Some(reason)) => write!(f, "it stopped unasked: {reason}"),
            Self::Killed => f.write_str("it was killed"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// What happened to an actor that is linked to a supervisor.
pub(super) enum Occurrence {
    Started,
    Ended(Ending),
}

impl Occurrence {
    /// None for events that are not about an actor.
    pub(super) fn of(event: SupervisionEvent) -> Option<(ActorCell, Self)> {
        match event {
            SupervisionEvent::ActorStarted(actor) => Some((actor, Self::Started)),
            SupervisionEvent::ActorTerminated(actor, state, reason) => {
                let cause = match reason {
                    Some(reason) if KILLED.contains(&reason.as_str()) => Cause::Killed,
                    reason => Cause::Stopped(reason.as_deref().map(shortened)),
                };
                let state = state.and_then(|mut state| state.msg.take());
                Some((actor, Self::Ended(Ending { cause, remains: Remains(state) })))
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                let cause = Cause::Failed(reason(error.as_ref()));
                Some((actor, Self::Ended(Ending { cause, remains: Remains(None) })))
            }
            SupervisionEvent::ProcessGroupChanged(_) => None,
        }
    }
}

/// The state of an actor that has ended. Its `Drop` is foreign code in the hands of the supervisor: it may panic.
pub(super) struct Remains(Option<Box<dyn Any + Send>>);

impl Remains {
    /// Drops the state in a task of its own, as it may take its time. `lease` is held as long.
    pub(super) fn bury(self, lease: Lease) {
        if self.0.is_some() {
            tokio::spawn(async move {
                drop(self);
                drop(lease);
            });
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let state = self.0.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
            tracing::error!("the state of an actor panicked while it was dropped: {}", panic_text(panic.as_ref()));
            // The payload is foreign, too.
            std::mem::forget(panic);
        }
    }
}

/// What a panic said, shortened.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    shortened(text.unwrap_or("a panic without a message"))
}

/// An error with its sources, on one line.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Some errors show their source themselves.
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    shortened(&text)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(REASON_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
