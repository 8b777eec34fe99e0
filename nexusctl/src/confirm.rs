//! Asking before something is destroyed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Exit, Failure};

/// For commands that destroy.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

impl ConfirmArgs {
    /// Whether `what` can be confirmed: it was, or there is a terminal to ask on.
    pub(crate) fn can_confirm(&self, what: &str) -> Result<(), Failure> {
        if self.yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(Failure::new(format!("nobody confirmed to {what}"))
            .because("There is no terminal to ask on.")
            .hint("Say it with the option", "--yes")
            .exit(Exit::USAGE))
    }

    /// Has the caller confirm `what`: `delete VM web and its disk`. Where there is no terminal to ask on, `--yes` has to
    /// have been said.
    pub(crate) fn confirm(&self, what: &str) -> Result<(), Failure> {
        self.can_confirm(what)?;
        if self.yes {
            return Ok(());
        }
        let mut out = anstream::stderr().lock();
        write!(out, "Really {}? [y/N] ", crate::output::clean(what))?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure::new("nothing was done").because("It was not confirmed.").exit(Exit::USAGE))
        }
    }
}
