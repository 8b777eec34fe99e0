//! Whoever reads the standard output.

use std::{
    future::pending,
    io::{self, IsTerminal},
    os::fd::AsFd,
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::oneshot;

use crate::failure::Failure;

/// Does what follows something, until nobody reads the standard output any more. A write would tell of that as well, but
/// nothing may happen for hours that would be written.
pub(crate) async fn while_read<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        result = work => result,
        () = gone() => Err(Failure::broken_pipe()),
    }
}

/// Returns once the other end of the standard output is closed. Never for a file, and for a terminal, whose end is told by
/// a signal.
async fn gone() {
    if io::stdout().is_terminal() {
        return pending().await;
    }
    let (tell, told) = oneshot::channel();
    // A thread, because epoll(7) takes no files, and it is not on us to make a pipe that was handed over non-blocking.
    let watch = thread::Builder::new().spawn(move || {
        let stdout = io::stdout();
        // Errors and the end are told unasked: see poll(2).
        let mut ends = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let ended = loop {
            match poll(&mut ends, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                ended => break ended,
            }
        };
        if ended.is_ok() {
            let _ = tell.send(());
        }
    });
    if watch.is_err() || told.await.is_err() {
        pending().await
    }
}
