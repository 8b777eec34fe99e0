//! A process that gives a terminal back when whoever had it can't any more.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
};

use clap::Args;
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};

use super::local::{CANCEL, RESET};
use crate::failure::{Exit, Failure};

/// Give a terminal back once standard input ends without a word
///
/// Not for people: nexusctl attach and exec start it, so that the terminal, which is standard error, is as it was even if
/// they are killed.
#[derive(Debug, Args)]
pub(crate) struct GuardTerminal;

/// The process. It is ended with its handle.
pub(super) struct Guarded(Child);

impl Guarded {
    /// Starts it, and waits until it knows how the terminal is.
    pub(super) fn start(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let mut guard = Command::new(std::env::current_exe()?);
        let guard = guard.arg("guard-terminal").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(terminal);
        let mut guarded = Self(guard.spawn()?);
        let ready = guarded.0.stdout.as_mut().map_or(Ok(0), |from| from.read(&mut [0]))?;
        if ready == 0 {
            return Err(io::Error::other("the process that would give the terminal back has ended"));
        }
        Ok(guarded)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It waits for this process and holds nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl GuardTerminal {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        // What ends the terminal's programs is not to end this one before its work is done; and outside their session it may
        // change the terminal, whoever is in its foreground.
        let _ = nix::unistd::setsid();
        let cannot = |error: io::Error| Failure::silent(Exit::FAILED).because(error.to_string());
        let terminal = io::stderr();
        let before = tcgetattr(&terminal).map_err(|error| cannot(error.into()))?;
        let told = |mut out: io::StdoutLock<'_>| out.write_all(b"\n").and_then(|()| out.flush());
        told(io::stdout().lock()).map_err(cannot)?;
        // Whatever the error: nobody writes to it, so it is the end of the other side.
        let _ = io::stdin().lock().read(&mut [0]);
        // Which screen is shown is not known: this leaves the alternate one and does nothing else. Where the cursor was on the
        // other one nobody knows any more, so it goes below all that is there.
        let _ = (&terminal).write_all(format!("{CANCEL}\x1b[?1047l{RESET}\x1b[999;1H\r\n").as_bytes());
        tcsetattr(&terminal, SetArg::TCSANOW, &before).map_err(|error| cannot(error.into()))?;
        Ok(Exit::OK)
    }
}
