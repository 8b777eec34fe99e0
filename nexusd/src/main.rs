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

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// The last word of a daemon that can't go on: to the log if there is one by now, else to standard error.
fn report(error: &(dyn std::error::Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::error!("{text}");
    if !tracing::event_enabled!(tracing::Level::ERROR) {
        #[expect(clippy::print_stderr, reason = "there is no log yet")]
        {
            eprintln!("nexusd: {text}");
        }
    }
}
