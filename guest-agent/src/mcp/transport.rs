//! What the SDK leaves open between its session and the stream: how many requests may be under way, and that a client that
//! is gone has no use for what it asked for.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    ErrorData, RoleServer,
    model::{ClientNotification, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio_util::sync::CancellationToken;

/// A transport of few requests at a time, whose end cancels what is under way. By itself the SDK would wait for that.
pub(super) struct Bounded<T> {
    inner: T,
    limit: usize,
    gone: CancellationToken,
    under_way: UnderWay,
    /// The answer to a request that is not begun. Kept, since the SDK drops the future of [`Transport::receive`] at will.
    refusal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Requests that were neither answered nor cancelled.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<Mutex<HashSet<RequestId>>>);

impl UnderWay {
    fn get(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Bounded<T> {
    /// `limit` requests at a time; `gone` is cancelled at the end of the stream.
    pub(super) fn new(inner: T, limit: usize, gone: CancellationToken) -> Self {
        Self { inner, limit, gone, under_way: UnderWay::default(), refusal: None }
    }

    /// Takes note of a request, unless it is to be refused.
    fn begin(&self, id: &RequestId) -> Result<(), ErrorData> {
        let mut under_way = self.under_way.get();
        if under_way.contains(id) {
            return Err(ErrorData::invalid_request("a request of this id is under way", None));
        }
        if under_way.len() >= self.limit {
            let message = format!("{} requests of this session are under way already", self.limit);
            return Err(ErrorData::invalid_request(message, None));
        }
        under_way.insert(id.clone());
        Ok(())
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Bounded<T> {
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
            // An answer takes room until it is written.
            if let Some(id) = answered {
                under_way.get().remove(&id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(refusal) = &mut self.refusal {
                refusal.await;
                self.refusal = None;
            }
            let Some(message) = self.inner.receive().await else {
                self.gone.cancel();
                return None;
            };
            match &message {
                JsonRpcMessage::Request(request) => {
                    if let Err(error) = self.begin(&request.id) {
                        let sending = self.inner.send(JsonRpcMessage::error(error, Some(request.id.clone())));
                        // Of a stream that fails, reading tells.
                        self.refusal = Some(Box::pin(async move { drop(sending.await) }));
                        continue;
                    }
                }
                JsonRpcMessage::Notification(notification) => {
                    // The SDK answers no more to a request that is cancelled.
                    if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                        && let Some(id) = &cancelled.params.request_id
                    {
                        self.under_way.get().remove(id);
                    }
                }
                JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
            }
            return Some(message);
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
