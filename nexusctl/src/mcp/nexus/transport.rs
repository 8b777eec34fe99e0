//! What the SDK leaves open between its session and the stream: at the end of its input it would give up within seconds what
//! is under way, whose answers the client still reads.

use std::{collections::HashSet, time::Duration};

use rmcp::{
    RoleServer,
    model::{ClientNotification, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{sync::watch, time::timeout};

/// How long a client that says nothing more waits for its answers.
const PATIENCE: Duration = Duration::from_secs(600);

/// A transport whose end waits for the answers.
pub(super) struct Patient<T> {
    inner: T,
    /// Requests that were neither answered nor cancelled.
    under_way: watch::Sender<HashSet<RequestId>>,
}

impl<T> Patient<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, under_way: watch::Sender::default() }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Patient<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &item {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let under_way = self.under_way.clone();
        let sending = self.inner.send(item);
        async move {
            let sent = sending.await;
            if let Some(id) = answered {
                under_way.send_if_modified(|ids| ids.remove(&id));
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let Some(message) = self.inner.receive().await else {
            let mut under_way = self.under_way.subscribe();
            // An error is not possible: the sender is here.
            let _ = timeout(PATIENCE, under_way.wait_for(HashSet::is_empty)).await;
            return None;
        };
        match &message {
            JsonRpcMessage::Request(request) => {
                self.under_way.send_if_modified(|ids| ids.insert(request.id.clone()));
            }
            JsonRpcMessage::Notification(notification) => {
                // The SDK answers no more to a request that is cancelled.
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.under_way.send_if_modified(|ids| ids.remove(id));
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
