//! Whether somebody reads what is written to the standard output.

use std::{io, os::fd::AsFd, thread};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::oneshot;

/// Returns when nobody will read it any more: a client that is gone does not have to say so. Never, where the standard output
/// can't be watched.
pub(super) async fn is_gone() {
    let (told, gone) = oneshot::channel();
    // It waits until the process ends.
    thread::spawn(move || {
        let out = io::stdout();
        loop {
            // Errors are told without being asked for; a pipe without a reader is one.
            let mut watched = [PollFd::new(out.as_fd(), PollFlags::empty())];
            match poll(&mut watched, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(_) => return,
                Ok(_) => break,
            }
        }
        // Whoever listened is gone when the process is about to end.
        let _ = told.send(());
    });
    if gone.await.is_err() {
        std::future::pending().await
    }
}
