use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_vsock::{VsockAddr, VsockStream};

use super::{Stream, connect_unix, hybrid, sidecar};
use crate::vmm::VmmError;

/// How long [`Endpoint::connect`] waits for an answer. A guest whose virtual CPUs stand still never gives one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the vsock ports of one guest are reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// Through a Unix socket that speaks Firecracker's hybrid protocol.
    Hybrid {
        /// The socket, owned by the VMM or its sidecar.
        socket: PathBuf,
    },
    /// The same, by QEMU's sidecar `vhost-device-vsock`, which can't be dialled before the guest's driver is ready.
    Sidecar {
        /// The socket, once it may be dialled.
        socket: PathBuf,
        /// The socket until then.
        closed: PathBuf,
        /// QEMU's monitor, which knows.
        monitor: PathBuf,
    },
    /// Through the kernel's vhost-vsock. Any local user can connect to a context id, so the agent behind it has to ask
    /// for a secret.
    Kernel {
        /// The guest's context id, 3 or more.
        cid: u32,
    },
}

impl Endpoint {
    /// Connects to `port` in the guest. The stream is ready for the first byte of the port's own protocol.
    ///
    /// # Errors
    /// [`VsockError::Refused`] when nobody listens on the port; the others when the VMM or the guest's kernel does not
    /// answer, at the latest after 5 s.
    pub async fn connect(&self, port: u32) -> Result<Stream, VsockError> {
        timeout(CONNECT_TIMEOUT, self.connect_unbounded(port)).await.map_err(|_| VsockError::Timeout { port })?
    }

    /// The Unix socket that is dialled, if it is one.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Hybrid { socket } | Self::Sidecar { socket, .. } => Some(socket),
            Self::Kernel { .. } => None,
        }
    }

    async fn connect_unbounded(&self, port: u32) -> Result<Stream, VsockError> {
        match self {
            Self::Hybrid { socket } => dial(socket, port).await,
            Self::Sidecar { socket, closed, monitor } => match dial(socket, port).await {
                Err(VsockError::Socket { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    sidecar::open(socket, closed, monitor).await?;
                    dial(socket, port).await
                }
                dialled => dialled,
            },
            Self::Kernel { cid } => match VsockStream::connect(VsockAddr::new(*cid, port)).await {
                Ok(stream) => Ok(Stream::Vsock(stream)),
                // The guest's kernel answers a connection to a port without a listener with a reset.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(VsockError::Refused { port }),
                Err(source) => Err(VsockError::Kernel { cid: *cid, port, source }),
            },
        }
    }
}

async fn dial(socket: &Path, port: u32) -> Result<Stream, VsockError> {
    let stream =
        connect_unix(socket).await.map_err(|source| VsockError::Socket { socket: socket.to_owned(), source })?;
    hybrid::connect(stream, port).await.map(Stream::Unix)
}

/// A port of a guest could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// Nobody accepts connections on the socket: the VMM or its sidecar is not there, or not there yet.
    #[error("cannot connect to the vsock socket {}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel could not connect.
    #[error("cannot connect to vsock port {port} of context id {cid}")]
    Kernel {
        /// The guest's context id.
        cid: u32,
        /// The port.
        port: u32,
        /// Why.
        source: io::Error,
    },
    /// QEMU did not say whether the guest's driver is ready.
    #[error("cannot ask the VMM for the guest's vsock driver")]
    Monitor {
        /// Why.
        source: Box<VmmError>,
    },
    /// Nobody in the guest listens on the port, or the guest has no vsock driver yet.
    #[error("nothing in the guest listens on vsock port {port}")]
    Refused {
        /// The port.
        port: u32,
    },
    /// The proxy's answer broke off.
    #[error("the vsock proxy failed while connecting to port {port}")]
    Proxy {
        /// The port.
        port: u32,
        /// Why.
        source: io::Error,
    },
    /// The proxy answered something that is not the hybrid protocol.
    #[error("the vsock proxy answered `{answer}` instead of `OK <port>` for port {port}")]
    Protocol {
        /// The port.
        port: u32,
        /// The first bytes of its answer, escaped.
        answer: String,
    },
    /// No answer in time.
    #[error("no answer from vsock port {port} within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// The port.
        port: u32,
    },
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_link_to_another_socket_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (bus, link) = (dir.path().join("bus"), dir.path().join("vsock.sock"));
        let _bus = UnixListener::bind(&bus).unwrap();
        symlink(&bus, &link).unwrap();
        let error = Endpoint::Hybrid { socket: link }.connect(100).await.unwrap_err();
        assert!(matches!(error, VsockError::Socket { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_refused_and_what_is_not_there_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for (socket, kind) in
            [(file, io::ErrorKind::InvalidInput), (dir.path().join("nothing"), io::ErrorKind::NotFound)]
        {
            match (Endpoint::Hybrid { socket }).connect(100).await {
                Err(VsockError::Socket { source, .. }) => assert_eq!(source.kind(), kind),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_that_says_nothing_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vsock.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        tokio::time::pause();
        assert!(matches!(Endpoint::Hybrid { socket }.connect(100).await, Err(VsockError::Timeout { port: 100 })));
    }
}
