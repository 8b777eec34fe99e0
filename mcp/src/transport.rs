//! What the SDK leaves open between its session and the stream: how many requests may be under way, and what becomes of them
//! when the client says nothing more. By itself the SDK would wait for a few seconds, whether the client still reads the
//! answers or not.

use std::{collections::HashSet, pin::Pin, time::Duration};

use rmcp::{
    ErrorData, RoleServer,
    model::{ClientNotification, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// What becomes of the requests that are under way when the client says nothing more.
#[derive(Clone, Debug)]
pub enum AtEnd {
    /// They are given up, and this is cancelled: a client that says nothing more is gone.
    GiveUp(CancellationToken),
    /// They are answered, as far as that takes no longer: a client that says nothing more still reads.
    Answer(Duration),
}

impl AtEnd {
    async fn comes(&self, since: Instant, under_way: &watch::Sender<HashSet<RequestId>>) {
        match self {
            Self::GiveUp(gone) => gone.cancel(),
            Self::Answer(patience) => {
                let mut under_way = under_way.subscribe();
                // An error is not possible: the sender is here.
                let _ = timeout_at(since + *patience, under_way.wait_for(HashSet::is_empty)).await;
            }
        }
    }
}

/// A transport of few requests at a time.
pub(crate) struct Bounded<T> {
    inner: T,
    limit: usize,
    at_end: AtEnd,
    /// Requests that were neither answered nor cancelled.
    under_way: watch::Sender<HashSet<RequestId>>,
    /// The answer to a request that is not begun. Kept, since the SDK drops the future of [`Transport::receive`] at will.
    refusal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Since when the client says nothing more. Kept for the same reason.
    ended: Option<Instant>,
}

impl<T> Bounded<T> {
    /// `limit` requests at a time.
    pub(crate) fn new(inner: T, limit: usize, at_end: AtEnd) -> Self {
        Self { inner, limit, at_end, under_way: watch::Sender::default(), refusal: None, ended: None }
    }

    /// Takes note of a request, unless it is to be refused.
    fn begin(&self, id: &RequestId) -> Result<(), ErrorData> {
        let mut refused = None;
        self.under_way.send_if_modified(|under_way| {
            if under_way.contains(id) {
                refused = Some("a request of this id is under way".to_owned());
            } else if under_way.len() >= self.limit {
                refused = Some(format!("{} requests of this session are under way already", self.limit));
            }
            refused.is_none() && under_way.insert(id.clone())
        });
        refused.map_or(Ok(()), |why| Err(ErrorData::invalid_request(why, None)))
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
                under_way.send_if_modified(|under_way| under_way.remove(&id));
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
            let message = if self.ended.is_none() { self.inner.receive().await } else { None };
            let Some(message) = message else {
                let since = *self.ended.get_or_insert_with(Instant::now);
                self.at_end.comes(since, &self.under_way).await;
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
                        self.under_way.send_if_modified(|under_way| under_way.remove(id));
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
