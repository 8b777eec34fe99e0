//! `nexusctl exec`, and what `nexusctl run` shares with it: a command in a guest whose streams, signals and exit code are
//! nexusctl's own.

mod command;
mod end;
mod signal;
mod start;
mod streams;
mod terminal;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;

pub(crate) use self::{command::CommandArgs, terminal::Outcome};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output::amount,
    vm,
};

/// Run a command in a VM, with the caller's output and, where asked for, input
///
/// When nexusctl ends before the command does, however that is, the command is killed with all that it started, unless it
/// is detached. The command's exit code is that of nexusctl, or 128 and the number of the signal that ended it. 124: its
/// --timeout was over. 125: the command could not be tried, or nobody knows how it ended. 126: it can't be executed. 127:
/// there is no such command.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Only start it, and print its number: it goes on by itself, without input, and what it writes is dropped
    #[arg(short, long, conflicts_with = "interactive")]
    detach: bool,
    /// Run it on a terminal in the guest, shown on this one: with -i every key goes there, Ctrl-C, Ctrl-D and Ctrl-Z as well
    #[arg(short, long, conflicts_with = "detach")]
    tty: bool,
    /// A variable for the command; without a value it is that of the caller
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = vm::variable)]
    env: Vec<(String, String)>,
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m")]
    boot_timeout: Duration,
    /// A name or an id
    #[arg(value_name = "VM")]
    vm: String,
    #[command(flatten)]
    command: CommandArgs,
}

impl Exec {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        if self.tty && self.command.interactive && !io::stdin().is_terminal() {
            return Err(Failure::new("standard input is no terminal: leave out -t").exit(Exit::NOT_RUN));
        }
        let mut interrupts = Interrupts::listen()?;
        let what = format!("run a command in VM {}", self.vm);
        let guest = tokio::select! {
            guest = Guest::find(bus, &self.vm, &what, self.boot_timeout) => guest.map_err(not_run)?,
            number = interrupts.next() => return Err(not_begun(&self.vm, number)),
        };
        if self.detach {
            return guest.detached(&self.command, &self.env, &mut interrupts).await;
        }
        if self.tty {
            return guest.on_terminal(&self.command, &self.env, &mut interrupts).await;
        }
        guest.command(&self.command, &self.env, &mut interrupts).await
    }
}

#[cfg(test)]
impl Exec {
    pub(crate) fn argv(&self) -> &[String] {
        &self.command.argv
    }
}

/// A failure before or beside the command.
pub(crate) fn not_run(failure: Failure) -> Failure {
    if failure.code() == Exit::FAILED { failure.exit(Exit::NOT_RUN) } else { failure }
}

/// What to say to who interrupts before the guest was asked.
fn not_begun(vm: &str, number: u8) -> Failure {
    Failure::new(format!("interrupted before the command ran in VM {vm}")).exit(Exit::signal(number))
}
