//! The program as its users have it: what it writes where, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bus;
mod refusals;
mod streams;
mod terminal;
mod unreachable;

use std::process::{Command, Output};

/// `nexusctl` with these arguments and an environment of its own: no bus, no colours asked for.
fn nexusctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexusctl"));
    command.args(arguments);
    for name in ["DBUS_SESSION_BUS_ADDRESS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    // Where a session bus would be, too.
    command.env("XDG_RUNTIME_DIR", "/nonexistent").env("TERM", "xterm");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, standard output and standard error.
fn parts(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
