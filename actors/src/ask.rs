//! Questions to actors: a message with a place for the answer, for whichever incarnation is up.

use std::time::Duration;

use nexus_model::ErrorKind;
use ractor::{ActorRef, Message};
use tokio::sync::oneshot;

use crate::{Error, supervisor::ActorSlot};

/// How long a question waits for an actor that is being restarted.
pub(crate) const ACTOR_DEADLINE: Duration = Duration::from_secs(20);

/// Where an answer goes that may be a refusal.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Asks the actor in `slot`, which errors call `whom`, and waits for its answer. That may take as long as it takes.
///
/// # Errors
/// `Internal` when the actor is not up within [`ACTOR_DEADLINE`], or ends before it answers.
pub(crate) async fn ask<M: Message, A>(
    slot: &ActorSlot<M>,
    whom: &str,
    message: impl FnOnce(oneshot::Sender<A>) -> M,
) -> Result<A, Error> {
    match slot.current(ACTOR_DEADLINE).await {
        Some(actor) => ask_actor(&actor, whom, message).await,
        None => Err(not_there(whom)),
    }
}

/// As [`ask`], with a bound on the wait for the answer. What was asked for goes on when that is over.
///
/// # Errors
/// As [`ask`]'s; `Timeout`.
pub(crate) async fn ask_within<M: Message, A>(
    deadline: Duration,
    slot: &ActorSlot<M>,
    whom: &str,
    message: impl FnOnce(oneshot::Sender<A>) -> M,
) -> Result<A, Error> {
    let Some(actor) = slot.current(ACTOR_DEADLINE).await else { return Err(not_there(whom)) };
    within(deadline, whom, ask_actor(&actor, whom, message)).await
}

/// As [`ask_within`], of an actor that is up now.
///
/// # Errors
/// As [`ask_within`]'s; `Internal` at once when no incarnation is up.
pub(crate) async fn ask_now_within<M: Message, A>(
    deadline: Duration,
    slot: &ActorSlot<M>,
    whom: &str,
    message: impl FnOnce(oneshot::Sender<A>) -> M,
) -> Result<A, Error> {
    let Some(actor) = slot.now() else { return Err(not_there(whom)) };
    within(deadline, whom, ask_actor(&actor, whom, message)).await
}

async fn within<A>(deadline: Duration, whom: &str, answer: impl Future<Output = Result<A, Error>>) -> Result<A, Error> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!(
                "{whom} did not get there in {} s, and may still: see how it is with `nexusctl tree`",
                deadline.as_secs()
            ),
        )),
    }
}

/// Asks one incarnation.
///
/// # Errors
/// `Internal` when it ends before it answers.
pub(crate) async fn ask_actor<M: Message, A>(
    actor: &ActorRef<M>,
    whom: &str,
    message: impl FnOnce(oneshot::Sender<A>) -> M,
) -> Result<A, Error> {
    let (reply, answer) = oneshot::channel();
    actor.send_message(message(reply)).map_err(|_| not_there(whom))?;
    answer.await.map_err(|_| {
        Error::internal(format!("the actor of {whom} was restarted meanwhile: look at its state and try again"))
    })
}

fn not_there(whom: &str) -> Error {
    Error::internal(format!("the actor of {whom} is not there; see the journal"))
}
