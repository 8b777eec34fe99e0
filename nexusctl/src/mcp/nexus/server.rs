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

use super::{
    call::{Call, Progress},
    tool::Tool,
};

const INSTRUCTIONS: &str = "Virtual machines on this computer, each of its own and supervised. vm_list says which there are, \
image_list what they can be made from. A VM has to be started before commands are run or files read and written in it; \
everything of that happens inside the VM, as its root user unless another one is named.";

/// Passes calls on.
#[derive(Debug)]
pub(super) struct Server {
    calls: mpsc::Sender<Call>,
}

impl Server {
    pub(super) const fn new(calls: mpsc::Sender<Call>) -> Self {
        Self { calls }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("nexus", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(Tool::ALL.map(Tool::describe).into()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = Tool::named(&request.name)
            .ok_or_else(|| ErrorData::invalid_params(format!("there is no tool `{}`", request.name), None))?;
        let (answer, answered) = oneshot::channel();
        let call = Call {
            tool,
            arguments: request.arguments.unwrap_or_default(),
            progress: context.meta.get_progress_token().map(|token| Progress::new(token, context.peer)),
            cancelled: context.ct,
            answer,
        };
        let over = |()| ErrorData::internal_error("the session has ended", None);
        self.calls.send(call).await.map_err(|_| over(()))?;
        // Of a call that is cancelled nobody reads the answer.
        Ok(answered.await.map_err(|_| over(()))?.into())
    }
}
