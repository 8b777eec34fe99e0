//! `nexusctl`: Nexus on the command line. A client of the session bus like any other; what it can do, any client can.

mod attach;
mod bus;
mod cli;
mod completions;
mod confirm;
mod cp;
mod doctor;
mod exec;
mod failure;
mod guest;
mod image;
mod interrupt;
mod job;
mod kernel;
mod mcp;
mod news;
mod objects;
mod orphan;
mod output;
mod path;
mod progress;
mod records;
mod refusal;
mod run;
mod screen;
mod several;
mod status;
mod stream;
mod terminal;
mod tree;
mod ttyd;
mod version;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, failure::Failure};

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| refusal::plain(error).exit());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(Failure::new("cannot start").because(output::sentence(&error.to_string()))),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.is_silent() {
                output::note(failure.to_string());
            }
            failure.code().into()
        }
    }
}
