//! Signals that end nexusctl while it waits.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// What a terminal, a service manager or a shell sends to whoever is to end, by Linux' numbers.
const NUMBERS: [u8; 4] = [1, 2, 3, 15];

/// Takes those signals from now on, so that they don't end the process by themselves.
pub(crate) struct Interrupts {
    signals: [Signal; 4],
}

impl Interrupts {
    /// Listens.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |number: u8| signal(SignalKind::from_raw(i32::from(number)));
        let listening = || -> std::io::Result<_> {
            let [hangup, interrupt, quit, terminate] = NUMBERS.map(listen);
            Ok([hangup?, interrupt?, quit?, terminate?])
        };
        let signals = listening().map_err(|error| {
            Failure::new("cannot listen for signals").because(crate::output::sentence(&error.to_string()))
        })?;
        Ok(Self { signals })
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> u8 {
        let [hangup, interrupt, quit, terminate] = &mut self.signals;
        let [one, two, three, fifteen] = NUMBERS;
        tokio::select! {
            _ = hangup.recv() => one,
            _ = interrupt.recv() => two,
            _ = quit.recv() => three,
            _ = terminate.recv() => fifteen,
        }
    }
}
