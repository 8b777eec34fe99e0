//! `nexus-shim [--detach] <unit> <runtime folder>`: the keeper of one VM's processes, see `nexus_host::unit`.
//!
//! It has one thread, so that it may fork and make namespaces, and it never exits before all that it started is gone.

mod confine;
mod connection;
mod kernel;
mod log;
mod sandbox;
mod status;
mod unit;

use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};

use nix::unistd::ForkResult;

use crate::{connection::Connection, unit::Unit};

struct Arguments {
    detach: bool,
    runtime_dir: PathBuf,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.skip(1).peekable();
        let detach = arguments.next_if(|argument| argument == "--detach").is_some();
        // The unit's name is for those who list processes.
        let (_name, runtime_dir) = (arguments.next()?, arguments.next()?);
        arguments.next().is_none().then(|| Self { detach, runtime_dir: runtime_dir.into() })
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(env::args_os()) else { return ExitCode::from(2) };
    if arguments.detach {
        match kernel::fork() {
            Ok(ForkResult::Parent { .. }) => return ExitCode::SUCCESS,
            Ok(ForkResult::Child) => {}
            Err(_) => return ExitCode::FAILURE,
        }
        if nix::unistd::setsid().is_err() {
            return ExitCode::FAILURE;
        }
    }
    kernel::close_inherited();
    // Nobody who listens, nobody who wants it.
    let Ok((connection, request)) = Connection::open(&arguments.runtime_dir) else { return ExitCode::FAILURE };
    match Unit::start(&arguments.runtime_dir, request, &connection) {
        Ok((unit, record)) => {
            connection.answer(&Ok(record));
            status::exit_like(unit.keep())
        }
        Err(failure) => {
            connection.answer(&Err(failure));
            ExitCode::FAILURE
        }
    }
}
