//! A terminal in a guest, shown on the caller's.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use nix::sys::signal::{Signal, raise};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{DetachKeys, Keyboard, alternate::Alternate, keys::Typed, local::Local, screen::Screen};
use crate::{
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::sentence,
    stream::blocking,
};

/// How it is shown.
pub(crate) struct View {
    /// The stream that the guest gave.
    pub(crate) stream: OwnedFd,
    /// Whose the caller's keyboard is.
    pub(crate) keyboard: Keyboard,
    /// What is typed to leave.
    pub(crate) keys: DetachKeys,
}

/// Why nothing is shown any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The caller typed the keys for that.
    Detached,
    /// The terminal has ended, or its guest.
    Ended,
    /// A signal.
    Interrupted(u8),
}

impl View {
    /// Shows it to its end. The caller's terminal is as it was before when this returns, or is dropped.
    pub(crate) async fn show(self, interrupts: &mut Interrupts) -> Result<End, Failure> {
        let failed = |error: io::Error| cannot("use the caller's terminal", &error);
        let suspend = SignalKind::from_raw(Signal::SIGTSTP as i32);
        let mut suspended = signal(suspend).map_err(failed)?;
        let stream = blocking(self.stream).map_err(failed)?;
        let local = Local::take(self.keyboard).map_err(failed)?;
        let (tell, mut told) = mpsc::unbounded_channel();
        if local.reads() {
            let into = stream.try_clone().map_err(failed)?;
            let (tell, keys, keyboard) = (tell.clone(), Typed::new(self.keys), self.keyboard);
            thread::spawn(move || {
                if type_into(into, keys, keyboard) {
                    // Whoever listened is gone when the process is about to end.
                    let _ = tell.send(Ok(End::Detached));
                }
            });
        }
        let screen = Arc::clone(&local.screen);
        thread::spawn(move || tell.send(show_from(stream, &screen).map(|()| End::Ended)));
        loop {
            tokio::select! {
                end = told.recv() => return end.unwrap_or(Ok(End::Ended)),
                number = interrupts.next() => return Ok(End::Interrupted(number)),
                _ = suspended.recv() => {
                    local.leave();
                    // Goes on here once the shell has continued it.
                    raise(Signal::SIGSTOP).map_err(|error| failed(error.into()))?;
                    local.enter().map_err(failed)?;
                }
            }
        }
    }
}

/// Until the keys for leaving are typed, which is true, or nobody types or reads any more.
fn type_into(mut into: File, mut keys: Typed, keyboard: Keyboard) -> bool {
    let Ok(from) = io::stdin().as_fd().try_clone_to_owned() else { return false };
    let (mut from, mut chunk) = (File::from(from), [0; 4096]);
    loop {
        match from.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return false,
            Ok(count) => {
                let Some(typed) = keys.filter(chunk.get(..count).unwrap_or_default()) else { return true };
                if keyboard == Keyboard::Guest && into.write_all(&typed).is_err() {
                    return false;
                }
            }
        }
    }
}

/// Until the terminal's end.
fn show_from(mut from: File, screen: &Screen) -> Result<(), Failure> {
    let cannot_write = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::broken_pipe(),
        _ => cannot("write what the terminal shows", &error),
    };
    let own = io::stdout().as_fd().try_clone_to_owned().map_err(cannot_write)?;
    let (mut into, mut chunk, mut follower) = (File::from(own), vec![0; 64 * 1024], Alternate::default());
    loop {
        match from.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A guest that is gone may reset its streams.
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => {
                let output = chunk.get(..count).unwrap_or_default();
                screen.show(output, &mut follower, &mut into).map_err(cannot_write)?;
            }
        }
    }
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what}")).because(sentence(&error.to_string())).exit(Exit::NOT_RUN)
}
