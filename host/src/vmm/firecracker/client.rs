//! A connection to Firecracker's API.

use std::{io, path::Path, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::requests::{Fault, InstanceInfo, InstanceState, Request};
use crate::{vmm::VmmError, vsock::connect_unix};

/// The longest answer that is read: a guest may have taken over who gives it.
const MAX_ANSWER: usize = 64 * 1024;
/// How long one call may take. `InstanceStart`, the longest, was seen to take 30 ms.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

impl Client {
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let stream = connect_unix(socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Its error comes out of the request that it fails.
        let connection = tokio::spawn(async { drop(connection.await) });
        Ok(Self { sender, _connection: AbortOnDropHandle::new(connection) })
    }

    /// Sends a request to which there is no answer but yes or no.
    pub(super) async fn send(&mut self, request: Request) -> Result<(), VmmError> {
        self.exchange(request).await.map(drop)
    }

    /// Asks in which state the instance is.
    pub(super) async fn instance_state(&mut self) -> Result<InstanceState, VmmError> {
        let answer = self.exchange(Request::describe()).await?;
        serde_json::from_slice(&answer)
            .map(|InstanceInfo { state }| state)
            .map_err(|error| VmmError::Api { request: "GET /".to_owned(), source: error.into() })
    }

    async fn exchange(&mut self, request: Request) -> Result<Bytes, VmmError> {
        let name = format!("{} {}", request.method, request.path);
        match timeout(ANSWER_TIMEOUT, self.try_exchange(request)).await {
            Ok(Ok((status, body))) if status.is_success() => Ok(body),
            Ok(Ok((status, body))) => {
                let message = match serde_json::from_slice(&body) {
                    Ok(Fault { fault_message }) => fault_message,
                    Err(_) => status.to_string(),
                };
                Err(VmmError::Rejected { request: name, message })
            }
            Ok(Err(source)) => Err(VmmError::Api { request: name, source }),
            Err(_) => Err(VmmError::Timeout { request: name, waited: ANSWER_TIMEOUT }),
        }
    }

    async fn try_exchange(
        &mut self,
        request: Request,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let body = request.body.map(|body| body.to_string()).unwrap_or_default();
        let request = hyper::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    }
}
