//! A command with the caller's streams, or on the caller's terminal.

use std::{collections::HashMap, time::Duration};

use clap::Args;
use nexus_dbus::client::Options;
use tokio::sync::watch;

use super::{
    Outcome, not_run,
    start::Started,
    streams::{Channel, Copied},
};
use crate::{
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output::amount,
    terminal::{DetachKeys, Keyboard},
};

/// A command, and how it is run.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// Pass standard input on to the command; otherwise its input is empty
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Run it as this user of the guest [default: root]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Run it in this folder of the guest, an absolute path
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// Kill it, with all that it started, when it has run for so long, and end with 124
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub(crate) timeout: Option<Duration>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) argv: Vec<String>,
}

impl Guest<'_> {
    /// Runs a command with the caller's streams until its end.
    pub(crate) async fn command(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let Started { id, streams } = self.start(command, env, false, interrupts).await.map_err(not_run)?;
        let (copied, mut copies) = tokio::sync::mpsc::unbounded_channel();
        streams.copy(command.interactive, &copied);
        drop(copied);

        let (unread, over) = watch::channel(false);
        let mut waiting = Box::pin(self.end(id, over));
        let mut ended: Option<Result<Exit, Failure>> = None;
        let mut lost: Option<Failure> = None;
        let mut open = 2_u8;
        // The end of the command is not the end of its output.
        while ended.is_none() || open > 0 {
            tokio::select! {
                result = &mut waiting, if ended.is_none() => {
                    // Without the guest there is nobody who would close the streams.
                    if result.as_ref().is_err_and(|failure| failure.code() != Exit::TIME_UP) {
                        open = 0;
                    }
                    ended = Some(result);
                }
                Some(copied) = copies.recv() => match copied {
                    Copied { channel: Channel::Input, .. } => {}
                    Copied { result, .. } => {
                        open = open.saturating_sub(1);
                        unread.send_replace(open == 0);
                        if let Err(failure) = result {
                            lost.get_or_insert(failure);
                        }
                    }
                },
                number = interrupts.next() => match ended {
                    // Only what the command left behind still holds the streams.
                    Some(_) => return Err(Failure::silent(Exit::signal(number))),
                    None => self.pass_on(id, number, interrupts).await?,
                },
            }
        }
        match (ended, lost) {
            (Some(Ok(_)), Some(lost)) => Err(lost),
            (Some(result), _) => result,
            (None, _) => Err(Failure::silent(Exit::NOT_RUN)),
        }
    }

    /// Runs a command on a terminal that ends with this viewer of it.
    pub(super) async fn on_terminal(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let what = self.what(command);
        let keys = DetachKeys::none();
        let keyboard = if command.interactive { Keyboard::Guest } else { Keyboard::Caller };
        let opened = self.open_terminal(&what, &argv, || options(command, env), keyboard, keys, interrupts).await;
        match self.show(opened.map_err(not_run)?, interrupts).await? {
            Outcome::Exit(exit) => Ok(exit),
            // Nothing that is typed means that.
            Outcome::Detached => Err(Failure::silent(Exit::NOT_RUN)),
        }
    }

    /// What is being done, for people.
    pub(super) fn what(&self, command: &CommandArgs) -> String {
        let program = command.argv.first().filter(|program| !program.is_empty());
        format!("run {} in VM {}", program.map_or("a command", String::as_str), self.name)
    }
}

/// How long a command may run.
fn limit(text: &str) -> Result<Duration, String> {
    let limit = amount::parse_duration(text)?;
    if limit.is_zero() { Err("a command takes longer; without this it may run for ever".to_owned()) } else { Ok(limit) }
}

/// What a command is to be run with, as `Guest.Exec` and `Guest.OpenShell` take it.
pub(super) fn options(command: &CommandArgs, env: &[(String, String)]) -> Options<'static> {
    let mut options = Options::new();
    if let Some(limit) = command.timeout {
        options.insert("timeout-usec", u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).into());
    }
    if let Some(user) = &command.user {
        options.insert("user", user.clone().into());
    }
    if let Some(folder) = &command.workdir {
        options.insert("working-directory", folder.clone().into());
    }
    if !env.is_empty() {
        let env: HashMap<String, String> = env.iter().cloned().collect();
        options.insert("env", env.into());
    }
    options
}
