//! A call of a tool on its way through the session's task.

use std::{collections::BTreeMap, rc::Rc};

use rmcp::{
    Peer, RoleServer,
    model::{CallToolResult, ContentBlock, JsonObject, ProgressNotificationParam, ProgressToken},
};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::tool::Tool;
use crate::agent::Agent;

/// What was called, and whom to answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) tool: Tool,
    pub(super) arguments: JsonObject,
    pub(super) progress: Option<Progress>,
    pub(super) cancelled: CancellationToken,
    pub(super) answer: oneshot::Sender<CallToolResult>,
}

/// What there is to say to the caller.
#[derive(Debug)]
pub(super) struct Reply {
    /// For a person, or a model.
    pub(super) texts: Vec<String>,
    /// For a program: what the tool's output schema describes.
    pub(super) structured: Option<serde_json::Value>,
    /// Whether it was not done.
    pub(super) is_error: bool,
}

impl Reply {
    /// What was found or done.
    pub(super) fn new(texts: Vec<String>, structured: &impl Serialize) -> Self {
        Self { texts, structured: serde_json::to_value(structured).ok(), is_error: false }
    }

    /// Why it was not done.
    pub(super) fn failure(message: impl Into<String>) -> Self {
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

impl Call {
    /// Does what was called and answers, unless that is cancelled.
    pub(super) async fn answer(self, agent: Rc<Agent>, env: Rc<BTreeMap<String, String>>) {
        let Self { tool, arguments, progress, cancelled, answer } = self;
        tokio::select! {
            reply = tool.call(arguments, progress, &agent, &env) => {
                // Nobody waits for it when the session is over.
                let _ = answer.send(reply.into());
            }
            () = cancelled.cancelled() => {}
        }
    }
}

/// The way to tell the caller how far a call has come.
#[derive(Debug)]
pub(super) struct Progress {
    token: ProgressToken,
    peer: Peer<RoleServer>,
}

impl Progress {
    pub(super) const fn new(token: ProgressToken, peer: Peer<RoleServer>) -> Self {
        Self { token, peer }
    }

    /// Returns when it is written; whether it was.
    pub(super) async fn tell(&self, bytes: u64, message: String) -> bool {
        // Exact up to 2^53.
        #[expect(clippy::cast_precision_loss, reason = "the protocol counts so")]
        let progress = ProgressNotificationParam::new(self.token.clone(), bytes as f64).with_message(message);
        self.peer.notify_progress(progress).await.is_ok()
    }
}
