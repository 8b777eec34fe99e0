//! The guest agent: the one program of Nexus that runs inside a VM. It answers the host on vsock, runs commands, and
//! takes the guest down in order. `docs/guest-protocol.md` tells how it is spoken to.
//!
//! It is process 1 of a bare root file system, a service under a guest's own init, or, for the `process` VMM driver, a
//! mere process that listens on a Unix socket; see [`nexus_protocol::Role`]. Everything happens on one thread.

mod agent;
mod arguments;
mod boot_options;
mod clock;
mod exec;
mod facts;
mod files;
mod init;
mod listener;
mod log;
mod mcp;
mod opening;
mod power;
mod reaper;
mod session;
mod signals;
mod stdio;
mod stream;
mod streams;
mod terminal;
mod tickets;

use std::{io::Write, process::ExitCode};

use arguments::{Arguments, Start};
use nexus_protocol::Role;

use crate::log::say;

fn main() -> ExitCode {
    let start = if rustix::process::getpid().is_init() {
        // The kernel hands options that it does not know to process 1: none of them is for the agent.
        Start::with_role(Role::Init)
    } else {
        match Arguments::parse(std::env::args_os().skip(1)) {
            Ok(Arguments::Start(start)) => start,
            Ok(Arguments::Print(text)) => {
                return ExitCode::from(u8::from(writeln!(std::io::stdout(), "{text}").is_err()));
            }
            Err(error) => {
                say!("{error}");
                return ExitCode::from(2);
            }
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let tasks = tokio::task::LocalSet::new();
    match tasks.block_on(&runtime, agent::run(start)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("{error}: {}", error.source_text());
            ExitCode::FAILURE
        }
    }
}
