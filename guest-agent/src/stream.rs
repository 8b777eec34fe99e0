//! A connection from the host.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use nexus_archive::MAX_SEND_BYTES;
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::UnixStream,
    time::sleep,
};
use tokio_vsock::VsockStream;

/// The longest pause between two looks at whether the proxy has passed everything on.
const MAX_LINGER_PAUSE: Duration = Duration::from_millis(500);

/// A byte stream from the host.
#[derive(Debug)]
pub(crate) enum Stream {
    Vsock(VsockStream),
    Unix(UnixStream),
}

impl Stream {
    /// The same stream for a thread of its own, in whatever mode.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Vsock(stream) => stream.as_fd().try_clone_to_owned(),
            Self::Unix(stream) => stream.as_fd().try_clone_to_owned(),
        }
    }

    /// Ends the stream so that the host reads everything that was written, and then the end.
    ///
    /// The proxies of hybrid vsock keep what a slow reader has not taken yet, and close the reader's side only for a
    /// guest that wants neither to read nor to write any more. A plain close would lose what they keep:
    /// `vhost-device-vsock` ignores a shutdown that comes while it keeps something, so that the guest's kernel resets
    /// the connection 8 s later; Firecracker arms a timer of 2 s, unless the two directions are shut one after the
    /// other. So: first one, then both, again and again until the other side has confirmed with a reset.
    pub(crate) async fn finish(self) {
        match self {
            Self::Unix(mut stream) => {
                // A real half-close; the kernel keeps what was written until it is read.
                let _ = stream.shutdown().await;
            }
            Self::Vsock(stream) => {
                let mut pause = Duration::from_millis(1);
                let mut shut = stream.shutdown(Shutdown::Write);
                while shut.is_ok() && !was_reset(&stream) {
                    shut = stream.shutdown(Shutdown::Both);
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_LINGER_PAUSE);
                }
            }
        }
    }
}

/// Whether the other side has given up a connection that was shut down here. Until then the kernel says that there is
/// nothing to read, afterwards that there is no connection.
fn was_reset(stream: &VsockStream) -> bool {
    recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)
        .is_err_and(|error| !matches!(error, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_write(cx, buf.get(..MAX_SEND_BYTES).unwrap_or(buf)),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
