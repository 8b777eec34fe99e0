//! A session, from its first word to its last.

use rmcp::{service::ServerInitializeError, transport::async_rw::AsyncRwTransport};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{AtEnd, Call, Reply, Tool, handler::Handler, transport::Bounded};
use nexus_protocol::MAX_TOOLS_LINE_BYTES;

/// Who serves.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: &'static str,
    /// What a client is told to begin with.
    pub instructions: &'static str,
    /// As many requests may be under way; one more is refused.
    pub max_requests: usize,
    /// What becomes of those when the client says nothing more.
    pub at_end: AtEnd,
}

impl Server {
    /// Serves a client until its stream ends, each call in a task of its own, within a `LocalSet`. What is under way when the
    /// future ends or is dropped is dropped with it.
    ///
    /// # Errors
    /// When no session has begun, unless the client has said nothing at all.
    pub async fn serve<T: Tool, F: Future<Output = Reply>>(
        self,
        reading: impl AsyncRead + Send + Unpin + 'static,
        writing: impl AsyncWrite + Send + Unpin + 'static,
        act: impl Fn(Call<T>) -> F + Clone + 'static,
    ) -> Result<(), ServerInitializeError> {
        let Self { name, instructions, max_requests, at_end } = self;
        let gone = match &at_end {
            AtEnd::GiveUp(gone) => gone.clone(),
            AtEnd::Answer(_) => CancellationToken::new(),
        };
        let transport = AsyncRwTransport::new_server(reading, writing).with_max_line_length(MAX_TOOLS_LINE_BYTES);
        let transport = Bounded::new(transport, max_requests, at_end);
        let (calls, mut asked) = mpsc::channel(max_requests);
        let service = async {
            match rmcp::service::serve_server_with_ct(Handler { name, instructions, calls }, transport, gone).await {
                Ok(running) => {
                    // Of a task that failed the panic hook has told.
                    drop(running.waiting().await);
                    Ok(())
                }
                Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        tokio::pin!(service);
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                result = &mut service => return result,
                Some(asked) = asked.recv() => {
                    while tasks.try_join_next().is_some() {}
                    let act = act.clone();
                    tasks.spawn_local(asked.answer(async move |call| act(call).await));
                }
            }
        }
    }
}
