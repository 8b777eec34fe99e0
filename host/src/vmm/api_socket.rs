//! The wait for a VMM that was just started to accept connections on its API socket.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::VmmError;

/// How long a VMM may take to open its API. QEMU in plain emulation, the slowest, was seen to take 0.3 s.
const WAIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Calls `connect` until it succeeds, or until the error is one that waiting does not cure.
pub(super) async fn wait<T, F>(socket: &Path, connect: impl Fn() -> F) -> Result<T, VmmError>
where
    F: Future<Output = io::Result<T>>,
{
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_not_yet(&error) && start.elapsed() < WAIT => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(source) => {
                return Err(VmmError::Unreachable { socket: socket.to_owned(), waited: start.elapsed(), source });
            }
        }
    }
}

/// The socket is not bound yet, or bound and not listening yet, or others wait there as many as QEMU lets.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}
