//! How a stream beside the control connections begins: with a frame that says what it is for, and an answer.

use nexus_protocol::{
    Failure, MAX_STREAM_FRAME_BYTES, StreamAnswer,
    frame::{read_one, write_one},
};
use serde::de::DeserializeOwned;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout, timeout_at},
};

use crate::{agent::Agent, listener::OPENING_DEADLINE, stream::Stream};

/// As many connections may be spare: nothing is said on them for longer than [`OPENING_DEADLINE`].
pub(crate) const MAX_SPARES: usize = 32;

/// What came of the opening of a stream.
#[derive(Debug)]
pub(crate) enum Opening<T> {
    /// It may be used.
    Open(Stream, T),
    /// It might have been, but the host has not heard of it.
    Unheard(T),
    /// It is over.
    Over,
}

/// Lets a stream say what it is for, now or much later, has that decided on, and answers.
pub(crate) async fn open<H: DeserializeOwned, T>(
    mut stream: Stream,
    agent: &Agent,
    admit: impl FnOnce(H) -> Result<T, Failure>,
) -> Opening<T> {
    let Some(first) = first_byte(&mut stream, agent).await else { return Opening::Over };
    let deadline = Instant::now() + OPENING_DEADLINE;
    let mut frame = first.as_slice().chain(&mut stream);
    let header = timeout_at(deadline, read_one(&mut frame, MAX_STREAM_FRAME_BYTES)).await;
    let Ok(Ok(header)) = header else { return Opening::Over };
    let (admitted, answer) = match admit(header) {
        Ok(admitted) => (Some(admitted), StreamAnswer::Open),
        Err(failure) => (None, StreamAnswer::Failure(failure)),
    };
    let answering = write_one(&mut stream, MAX_STREAM_FRAME_BYTES, &answer);
    let is_heard = matches!(timeout_at(deadline, answering).await, Ok(Ok(())));
    match admitted {
        Some(admitted) if is_heard => Opening::Open(stream, admitted),
        Some(admitted) => Opening::Unheard(admitted),
        None => {
            if is_heard {
                stream.finish().await;
            }
            Opening::Over
        }
    }
}

/// Until the host begins, which it may do when it likes as long as there are few such hosts.
async fn first_byte(stream: &mut Stream, agent: &Agent) -> Option<[u8; 1]> {
    let mut first = [0];
    let count = match timeout(OPENING_DEADLINE, stream.read(&mut first)).await {
        Ok(read) => read,
        Err(_) => {
            let _place = agent.spares.try_acquire().ok()?;
            stream.read(&mut first).await
        }
    };
    matches!(count, Ok(1)).then_some(first)
}
