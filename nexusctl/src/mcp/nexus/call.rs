//! A call of a tool on its way.

use nexus_model::ErrorKind;
use rmcp::{
    Peer, RoleServer,
    model::{CallToolResult, ContentBlock, JsonObject, ProgressNotificationParam, ProgressToken},
};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::tool::Tool;
use crate::{bus::Bus, failure::Failure};

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
    /// What was found or done, whose text is its JSON.
    pub(super) fn new(structured: &impl Serialize) -> Self {
        let structured = serde_json::to_value(structured).ok();
        let texts = structured.iter().map(|value| format!("{value:#}")).collect();
        Self { texts, structured, is_error: false }
    }

    /// Why it was not done.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self { texts: vec![message.into()], structured: None, is_error: true }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let mut text = failure.for_others(Tool::instead_of);
        if failure.kind() == Some(ErrorKind::NotFound) {
            text.push_str(" See what there is: vm_list, image_list");
        }
        Self::failure(text)
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
    pub(super) async fn answer(self, bus: Bus) {
        let Self { tool, arguments, progress, cancelled, answer } = self;
        tokio::select! {
            reply = tool.call(arguments, progress.as_ref(), &bus) => {
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

    /// Returns when it is written. Of a client that is gone its stream tells.
    pub(super) async fn tell(&self, progress: f64, message: String) {
        let progress = ProgressNotificationParam::new(self.token.clone(), progress).with_message(message);
        let _ = self.peer.notify_progress(progress).await;
    }
}
