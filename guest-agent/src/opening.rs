//! What a stream is for.

use std::rc::Rc;

use nexus_protocol::{
    MAX_STREAM_FRAME_BYTES, Opening, StreamAnswer,
    frame::{FrameError, read_one, write_one},
};
use tokio::time::timeout;

use crate::{agent::Agent, listener::OPENING_DEADLINE, stdio, stream::Stream, terminal};

/// Lets the stream say what it is for, and carries that to its end.
pub(crate) async fn serve(mut stream: Stream, agent: &Rc<Agent>) {
    match timeout(OPENING_DEADLINE, read_one(&mut stream, MAX_STREAM_FRAME_BYTES)).await {
        Ok(Ok(Opening::Stdio(header))) => stdio::serve(stream, &header, agent).await,
        Ok(Ok(Opening::Viewer(header))) => terminal::serve(stream, &header, agent).await,
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Answers what the stream said.
pub(crate) async fn answer(stream: &mut Stream, answer: &StreamAnswer) -> Result<(), FrameError> {
    let answered = timeout(OPENING_DEADLINE, write_one(stream, MAX_STREAM_FRAME_BYTES, answer)).await;
    answered.unwrap_or_else(|late| Err(FrameError::Io(late.into())))
}
