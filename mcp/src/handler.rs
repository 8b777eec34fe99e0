//! What the SDK serves.

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use tokio::sync::{mpsc, oneshot};

use crate::{Call, Progress, Tool, call::Asked};

/// Passes calls on.
#[derive(Debug)]
pub(crate) struct Handler<T> {
    pub(crate) name: &'static str,
    pub(crate) instructions: &'static str,
    pub(crate) calls: mpsc::Sender<Asked<T>>,
}

impl<T: Tool> ServerHandler for Handler<T> {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(self.name, env!("CARGO_PKG_VERSION")))
            .with_instructions(self.instructions)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(T::ALL.iter().map(|tool| tool.describe()).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = T::named(&request.name)
            .ok_or_else(|| ErrorData::invalid_params(format!("there is no tool `{}`", request.name), None))?;
        let (answer, answered) = oneshot::channel();
        let progress = context.meta.get_progress_token().map(|token| Progress::new(token, context.peer));
        let call = Call { tool, arguments: request.arguments.unwrap_or_default(), progress };
        let over = |()| ErrorData::internal_error("the session has ended", None);
        self.calls.send(Asked { call, cancelled: context.ct, answer }).await.map_err(|_| over(()))?;
        // Of a call that is cancelled nobody reads the answer.
        Ok(answered.await.map_err(|_| over(()))?.into())
    }
}
