//! `nexusctl completions`.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{
    cli::Cli,
    failure::{Exit, Failure},
};

/// Print the completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// bash, zsh or fish
    #[arg(value_parser = shell)]
    shell: Shell,
}

fn shell(name: &str) -> Result<Shell, String> {
    match name {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("there are completions for bash, zsh and fish".to_owned()),
    }
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "nexusctl", &mut text);
        io::stdout().lock().write_all(&text)?;
        Ok(Exit::OK)
    }
}
