//! Signals for a command.

use std::time::Duration;

use nexus_model::ErrorKind;
use tokio::time::Instant;

use super::Guest;
use crate::{
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output,
};

/// How long it takes at most where all are there. Some signals come twice, of the terminal and of a program that runs
/// nexusctl.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns when another signal is meant to be one: what comes twice at once is one.
async fn again(number: u8, interrupts: &mut Interrupts) {
    let patience = Instant::now() + PATIENCE;
    while interrupts.next().await == number && Instant::now() < patience {}
}

impl Guest<'_> {
    /// Passes a signal on. Somebody who sends a second one when that takes long does not want to wait for it.
    pub(super) async fn pass_on(&self, id: u64, number: u8, interrupts: &mut Interrupts) -> Result<(), Failure> {
        tokio::select! {
            passed = self.bus.patiently(self.signal(id, number)) => passed,
            () = again(number, interrupts) => Err(self.left(number)),
        }
    }

    /// What to say where a command could not be told of a signal.
    fn left(&self, number: u8) -> Failure {
        let name = &self.name;
        Failure::new(format!("the command in VM {name} was not told of signal {number}"))
            .because("Its guest kills it, with all that it started, when it sees that nexusctl has gone.")
            .hint("See whether it has", format!("nexusctl vm execs {name}"))
            .exit(Exit::signal(number))
    }

    /// Passes a signal on. The command decides what it makes of it.
    async fn signal(&self, id: u64, number: u8) -> Result<(), Failure> {
        let what = format!("pass signal {number} on to the command in VM {}", self.name);
        match self.bus.ask(&what, self.proxy.signal_exec(id, i32::from(number))).await {
            Ok(()) => Ok(()),
            // It has ended meanwhile: its end is on its way.
            Err(failure) if failure.kind() == Some(ErrorKind::NotFound) => Ok(()),
            Err(failure) => {
                output::note(failure.to_string());
                Err(self.left(number))
            }
        }
    }
}
