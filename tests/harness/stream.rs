//! Streams that the bus gave.

use std::os::{fd::OwnedFd, unix};

use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

use crate::REAL_PATIENCE;

/// A stream to a guest, which is a Unix socket, or one of vsock, which is used like one.
///
/// # Panics
/// When it can't be used.
#[must_use]
pub fn stream(fd: zbus::OwnedFd) -> UnixStream {
    let stream = unix::net::UnixStream::from(OwnedFd::from(fd));
    stream.set_nonblocking(true).expect("a socket");
    UnixStream::from_std(stream).expect("a runtime")
}

/// Reads until that is there.
///
/// # Panics
/// When it does not come.
pub async fn sees(stream: &mut UnixStream, text: &str) -> String {
    let mut seen = String::new();
    let reading = async {
        let mut chunk = [0; 4096];
        while !seen.contains(text) {
            let count = stream.read(&mut chunk).await.expect("it can be read");
            assert!(count > 0, "it ends: {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    let is_seen = timeout(REAL_PATIENCE, reading).await.is_ok();
    assert!(is_seen, "{text:?} is not in {seen:?}");
    seen
}
