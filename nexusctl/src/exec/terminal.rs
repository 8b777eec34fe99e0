//! Commands on a terminal in a guest, shown on the caller's.

use std::{os::fd::OwnedFd, time::Duration};

use nexus_dbus::client::Options;
use nexus_model::ErrorKind;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Guest, is_absent, start::PAUSE};
use crate::{
    bus::DEADLINE,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::sentence,
    terminal::{self, DetachKeys, End, View},
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
        types: bool,
        keys: DetachKeys,
        interrupts: &mut Interrupts,
    ) -> Result<Opened, Failure> {
        let size = terminal::size();
        let options = || {
            let mut options = more();
            if let Some((columns, rows)) = size {
                options.insert("columns", columns.into());
                options.insert("rows", rows.into());
            }
            if let Some(name) = terminal::name() {
                options.insert("term", name.into());
            }
            if !types {
                options.insert("read-only", true.into());
            }
            options
        };
        let until = Instant::now() + self.boot;
        let mut waited = false;
        loop {
            let opening = self.bus.patiently(timeout(DEADLINE, self.proxy.open_shell(argv, options())));
            let answer = tokio::select! {
                answer = opening => answer,
                // What was opened meanwhile ends with its stream, or is found again by its name.
                number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
            };
            let Ok(answer) = answer else {
                let why = format!("There was no answer within {} s.", DEADLINE.as_secs());
                return Err(Failure::new(format!("cannot {what}")).because(why));
            };
            match answer {
                Ok((id, stream)) => return Ok(Opened { id, view: View { stream: stream.into(), types, keys }, size }),
                Err(error) if is_absent(&error) && Instant::now() < until => {
                    // What is told of a guest that has just gone may be older than that answer.
                    if waited {
                        sleep(PAUSE).await;
                    }
                    self.ready(until.saturating_duration_since(Instant::now()), interrupts).await?;
                    waited = true;
                }
                Err(error) => {
                    let failure = self.bus.explain(what, &error).await;
                    return Err(match error.kind() {
                        Some(ErrorKind::NotFound) => failure.exit(Exit::NO_COMMAND),
                        Some(ErrorKind::PermissionDenied) => failure.exit(Exit::NOT_EXECUTABLE),
                        _ => failure,
                    });
                }
            }
        }
    }

    /// Opens a terminal for a viewer that is not the caller's terminal: its number, and its stream.
    pub(crate) async fn open_shell(&self, what: &str, options: Options<'_>) -> Result<(u64, OwnedFd), Failure> {
        let (id, stream) = self.bus.ask(what, self.proxy.open_shell(&[], options)).await?;
        Ok((id, stream.into()))
    }

    /// Gives a terminal another size; whether it has heard of it.
    pub(crate) async fn resize(&self, id: u64, columns: u32, rows: u32) -> bool {
        self.proxy.resize_exec(id, columns, rows).await.is_ok()
    }

    /// Shows it until its end, or until the caller leaves.
    pub(crate) async fn show(&self, opened: Opened, interrupts: &mut Interrupts) -> Result<Outcome, Failure> {
        let Opened { id, view, size } = opened;
        let resized = signal(SignalKind::window_change()).map_err(|error| {
            Failure::new("cannot listen for signals").because(sentence(&error.to_string())).exit(Exit::NOT_RUN)
        })?;
        let end = tokio::select! {
            end = view.show(interrupts) => end?,
            never = self.follow_size(id, size, resized) => match never {},
        };
        match end {
            End::Detached => Ok(Outcome::Detached),
            End::Interrupted(number) => Err(Failure::silent(Exit::signal(number))),
            End::Ended => {
                let (_over, is_over) = watch::channel(true);
                tokio::select! {
                    exit = self.end(id, is_over) => exit.map(Outcome::Exit),
                    number = interrupts.next() => Err(Failure::silent(Exit::signal(number))),
                }
            }
        }
    }

    /// Tells the guest of each size that the caller's terminal has, the newest only where there are many; and again, should
    /// nobody hear it.
    async fn follow_size(&self, id: u64, told: Option<(u32, u32)>, mut resized: Signal) -> std::convert::Infallible {
        let mut told = told;
        loop {
            match terminal::size() {
                Some((columns, rows)) if told != Some((columns, rows)) => {
                    if self.resize(id, columns, rows).await {
                        told = Some((columns, rows));
                        continue;
                    }
                    tokio::select! {
                        _ = resized.recv() => {}
                        () = sleep(RETRY) => {}
                    }
                }
                _ => {
                    // Without the signal it would be asked for ever: that never ends.
                    if resized.recv().await.is_none() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }
}
