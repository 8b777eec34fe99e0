//! Questions to actors: a message with a place for the answer, for whichever incarnation is up.

use std::time::Duration;

use nexus_model::ErrorKind;
use ractor::{ActorRef, Message, MessagingErr};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{Error, supervisor::ActorSlot};

/// How long a question waits for an actor that is being restarted.
pub(crate) const ACTOR_DEADLINE: Duration = Duration::from_secs(20);

/// Until an actor that takes no messages any more is seen to have ended.
const ENDING: Duration = Duration::from_millis(1);

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
    let (reply, answer) = oneshot::channel();
    send(slot, whom, message(reply)).await?;
    answered(whom, answer).await
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
    let (reply, answer) = oneshot::channel();
    send(slot, whom, message(reply)).await?;
    within(deadline, whom, answered(whom, answer)).await
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
    match timeout(deadline, answer).await {
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
    answered(whom, answer).await
}

/// Sends a message to the first incarnation that takes it.
async fn send<M: Message>(slot: &ActorSlot<M>, whom: &str, mut message: M) -> Result<(), Error> {
    let sent = async {
        loop {
            let actor = slot.current(ACTOR_DEADLINE).await?;
            match actor.send_message(message) {
                Ok(()) => return Some(()),
                // It has ended, which is about to be seen.
                Err(MessagingErr::SendErr(back)) => message = back,
                Err(_) => return None,
            }
            sleep(ENDING).await;
        }
    };
    timeout(ACTOR_DEADLINE, sent).await.ok().flatten().ok_or_else(|| not_there(whom))
}

async fn answered<A>(whom: &str, answer: oneshot::Receiver<A>) -> Result<A, Error> {
    answer.await.map_err(|_| {
        Error::internal(format!("the actor of {whom} was restarted meanwhile: look at its state and try again"))
    })
}

fn not_there(whom: &str) -> Error {
    Error::internal(format!("the actor of {whom} is not there; see the journal"))
}
