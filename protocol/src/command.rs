//! A command to run in the guest.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Label, MAX_COMMAND_BYTES};

/// What to run in the guest, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments. A program without a slash is looked for in the command's `PATH`.
    pub argv: Vec<String>,
    /// Variables on top of the agent's base environment (`PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `LANG`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folder to start in; the user's home when there is none, or `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Name or number of the user; root when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Milliseconds after which the command and everything that it started is killed; never when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What [`Call::Exec`](crate::Call::Exec) asks for: a [`Command`], in the same object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// What to run.
    #[serde(flatten)]
    pub command: Command,
    /// Whose its streams are, as [`StreamInfo::label`](crate::StreamInfo::label) will say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// Why a command can't be run, wherever that is tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// No program.
    #[error("no program was given")]
    Empty,
    /// NUL ends a string of the kernel's.
    #[error("an argument, a variable, the folder or the user holds a NUL character")]
    Nul,
    /// A variable that could not be told from another one: its name up to the `=`.
    #[error("env has a variable `{0}` whose name is empty or has a `=`")]
    Variable(String),
    /// A working folder that would be another one for everybody.
    #[error("the folder `{}` is no absolute path: begin with /", .0.chars().take(80).collect::<String>())]
    Relative(String),
    /// Over [`MAX_COMMAND_BYTES`].
    #[error("{bytes} bytes of arguments and variables are over the limit of {MAX_COMMAND_BYTES}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
}

impl Command {
    /// A command of these arguments, with everything else as it comes.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// When to kill it, if ever.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis)
    }

    /// Whether it could be run at all. The host asks before it sends, the agent before it runs.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), InvalidCommand> {
        if self.argv.first().is_none_or(String::is_empty) { Err(InvalidCommand::Empty) } else { self.validate_rest() }
    }

    /// Whether everything but its having a program is right.
    pub(crate) fn validate_rest(&self) -> Result<(), InvalidCommand> {
        let texts = || {
            let variables = self.env.iter().flat_map(|(name, value)| [name, value]);
            self.argv.iter().chain(variables).chain(&self.cwd).chain(&self.user)
        };
        if texts().any(|text| text.contains('\0')) {
            return Err(InvalidCommand::Nul);
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            // What comes behind the `=` may be a secret.
            return Err(InvalidCommand::Variable(
                name.chars().take_while(|character| *character != '=').take(80).collect(),
            ));
        }
        if let Some(folder) = self.cwd.as_ref().filter(|folder| !folder.starts_with('/')) {
            return Err(InvalidCommand::Relative(folder.clone()));
        }
        let bytes = texts().map(|text| text.len() + 1).sum();
        if bytes > MAX_COMMAND_BYTES { Err(InvalidCommand::TooLarge { bytes }) } else { Ok(()) }
    }
}
