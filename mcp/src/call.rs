//! A call of a tool on its way.

use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::Progress;

/// What was called.
#[derive(Debug)]
pub struct Call<T> {
    /// The tool.
    pub tool: T,
    /// What it is to know, as the caller wrote it.
    pub arguments: JsonObject,
    /// Where the caller wants to be told how far it has come.
    pub progress: Option<Progress>,
}

/// A call, and whom to answer.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    pub(crate) call: Call<T>,
    pub(crate) cancelled: CancellationToken,
    pub(crate) answer: oneshot::Sender<CallToolResult>,
}

impl<T> Asked<T> {
    /// Does what was called and answers, unless that is cancelled.
    pub(crate) async fn answer(self, act: impl AsyncFnOnce(Call<T>) -> Reply) {
        let Self { call, cancelled, answer } = self;
        tokio::select! {
            reply = act(call) => {
                // Nobody waits for it when the session is over.
                let _ = answer.send(reply.into());
            }
            () = cancelled.cancelled() => {}
        }
    }
}

/// What there is to say to the caller.
#[derive(Debug)]
pub struct Reply {
    /// For a person, or a model.
    pub texts: Vec<String>,
    /// For a program: what the tool's output schema describes.
    pub structured: Option<Value>,
    /// Whether it was not done.
    pub is_error: bool,
}

impl Reply {
    /// What was found or done.
    pub fn new(texts: Vec<String>, structured: &impl Serialize) -> Self {
        Self { texts, structured: serde_json::to_value(structured).ok(), is_error: false }
    }

    /// What was found or done, whose text is its JSON.
    pub fn json(structured: &impl Serialize) -> Self {
        let structured = serde_json::to_value(structured).ok();
        let texts = structured.iter().map(|value| format!("{value:#}")).collect();
        Self { texts, structured, is_error: false }
    }

    /// Why it was not done.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { texts: vec![message.into()], structured: None, is_error: true }
    }
}

impl From<Reply> for CallToolResult {
    fn from(reply: Reply) -> Self {
        let content = reply.texts.into_iter().map(ContentBlock::text).collect();
        let mut result = if reply.is_error { Self::error(content) } else { Self::success(content) };
        result.structured_content = reply.structured;
        result
    }
}
