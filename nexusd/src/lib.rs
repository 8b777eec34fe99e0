//! nexusd: composes the engine and the bus, and answers to the service manager.
//!
//! Nothing is decided here but the order of things: configuration, log, store, machine, tree, name, `READY=1`, and the way
//! back down.

mod arguments;
mod bus;
mod config;
mod folders;
mod logging;
mod programs;
mod run;
mod watchdog;

#[cfg(feature = "failpoints")]
pub mod failpoints;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

/// All of the program: reads its arguments, and returns when the daemon has ended.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// The last word of a daemon that can't go on: to the log if there is one by now, else to standard error.
fn report(error: &anyhow::Error) {
    tracing::error!("{error:#}");
    if !tracing::event_enabled!(tracing::Level::ERROR) {
        #[expect(clippy::print_stderr, reason = "there is no log yet")]
        {
            eprintln!("nexusd: {error:#}");
        }
    }
}
