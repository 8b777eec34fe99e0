//! Supervision: a tree of actors in which every end has a cause, a consequence and a count.
//!
//! A [`Supervisor`] starts its children, sees how they end, and starts them again: alone or with the siblings that depend
//! on them ([`Strategy`]), after a growing wait ([`ChildSpec::backoff`]), up to a limit ([`ChildSpec::intensity`]), and then
//! does as [`GiveUp`] says. [`Root`] is the top of a tree; [`ChildSpec::supervisor`] puts one supervisor below another.
//! Nothing here knows what the actors are for.
//!
//! - Callers reach an actor through its [`ActorSlot`], which follows it from incarnation to incarnation.
//! - Everyone sees how the actors are on the [`StatusBoard`]; the actor itself adds to it through its [`Reporter`].
//! - Two incarnations never overlap, thanks to the [`Lease`]; where that can't be had (a thread that never returns), the
//!   generation tells them apart.
//!
//! A supervisor never waits: starts, ends and waits run in tasks of their own and come back as messages, so a child that
//! hangs, flaps or ends slowly keeps nobody from anything. What happens on which cause is written down as law, with the
//! test of each line, in `docs/supervisor.md`.

mod actor;
mod child;
mod context;
mod ending;
mod lease;
mod message;
mod root;
mod slot;
mod spec;
mod state;
mod status;

pub use actor::{GaveUp, Supervisor, SupervisorArguments};
pub use context::ChildContext;
pub use ending::panic_text;
pub use lease::Lease;
pub use message::{Internal, RequestError, SupervisorMessage};
pub use root::{Root, RootEnd};
pub use slot::{ActorSlot, AnySlot};
pub use spec::{ChildSpec, GiveUp, Restart, StartFn, StartFuture, Strategy, SupervisorConfig};
pub use status::{ChildStatus, Reporter, StatusBoard, StatusChange, StatusSink};
