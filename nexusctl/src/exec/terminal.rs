//! Commands on a terminal in a guest, shown on the caller's.

use std::{convert::Infallible, future::pending, mem, os::fd::OwnedFd, time::Duration};

use nexus_dbus::client::Options;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

use crate::{
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output::{self, sentence},
    terminal::{self, DetachKeys, End, Keyboard, View},
};

/// How long to wait before the guest is told again of a size that it could not be told of.
const RETRY: Duration = Duration::from_secs(1);

/// A terminal that was opened.
pub(crate) struct Opened {
    id: u64,
    view: View,
    size: Option<(u32, u32)>,
}

/// How it came to its end here.
pub(crate) enum Outcome {
    /// With its command.
    Exit(Exit),
    /// The caller has left it.
    Detached,
}

impl Guest<'_> {
    /// Opens a terminal, as soon as the guest answers.
    pub(crate) async fn open_terminal(
        &self,
        what: &str,
        argv: &[&str],
        more: impl Fn() -> Options<'static>,
        keyboard: Keyboard,
        keys: DetachKeys,
        interrupts: &mut Interrupts,
    ) -> Result<Opened, Failure> {
        // Who only looks on is shown it as it is.
        let size = terminal::size().filter(|_| keyboard != Keyboard::Nobody);
        let options = || {
            let mut options = more();
            if let Some((columns, rows)) = size {
                options.insert("columns", columns.into());
                options.insert("rows", rows.into());
            }
            if let Some(name) = terminal::name() {
                options.insert("term", name.into());
            }
            if keyboard != Keyboard::Guest {
                options.insert("read-only", true.into());
            }
            options
        };
        // What was opened when a signal comes ends with its stream, or is found again by its name.
        let open = async |interrupts: &mut Interrupts| {
            self.ask_once(what, interrupts, self.proxy.open_shell(argv, options())).await
        };
        match self.when_ready(interrupts, open).await? {
            Ok((id, stream)) => {
                let view = View { stream: stream.into(), keyboard, keys };
                Ok(Opened { id, view, size })
            }
            Err(error) => Err(self.refused(what, &error).await),
        }
    }

    /// Opens a terminal for a viewer that is not the caller's terminal: its number, and its stream.
    pub(crate) async fn open_shell(&self, what: &str, options: Options<'_>) -> Result<(u64, OwnedFd), Failure> {
        let (id, stream) = self.bus.ask(what, self.proxy.open_shell(&[], options)).await?;
        Ok((id, stream.into()))
    }

    /// Shows it until its end, or until the caller leaves.
    pub(crate) async fn show(&self, opened: Opened, interrupts: &mut Interrupts) -> Result<Outcome, Failure> {
        let Opened { id, view, size } = opened;
        let looks_on = view.keyboard == Keyboard::Nobody;
        let (size, resized) = watch::channel(size);
        let signals = signal(SignalKind::window_change()).map_err(|error| {
            Failure::new("cannot listen for signals").because(sentence(&error.to_string())).exit(Exit::NOT_RUN)
        })?;
        let end = tokio::select! {
            end = view.show(interrupts) => end?,
            never = say_size(signals, size), if !looks_on => match never {},
            never = self.follow_size(id, resized) => match never {},
        };
        match end {
            End::Detached => Ok(Outcome::Detached),
            End::Interrupted(number) => Err(Failure::silent(Exit::signal(number))),
            End::Ended => {
                let (_over, is_over) = watch::channel(true);
                tokio::select! {
                    // What there is to say begins a line: the guest may have left one that has not ended.
                    exit = self.end(id, is_over) => exit.map(Outcome::Exit).inspect_err(|_| output::note("")),
                    number = interrupts.next() => Err(Failure::silent(Exit::signal(number))),
                }
            }
        }
    }

    /// Tells the guest of each new size of a terminal, of the newest only where there are many; and again, should nobody hear
    /// it.
    pub(crate) async fn follow_size(&self, id: u64, mut resized: watch::Receiver<Option<(u32, u32)>>) -> Infallible {
        loop {
            if resized.changed().await.is_err() {
                // Nobody says any more.
                pending::<()>().await;
            }
            loop {
                let newest = *resized.borrow_and_update();
                match newest {
                    Some((columns, rows)) if self.proxy.resize_exec(id, columns, rows).await.is_err() => {
                        sleep(RETRY).await;
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Says each size that the caller's terminal has.
async fn say_size(mut signals: Signal, size: watch::Sender<Option<(u32, u32)>>) -> Infallible {
    loop {
        let newest = terminal::size();
        size.send_if_modified(|size| newest.is_some() && mem::replace(size, newest) != newest);
        // Without the signal it would be asked for ever: that never ends.
        if signals.recv().await.is_none() {
            pending::<()>().await;
        }
    }
}
