//! The start of a command, in a guest that may still be booting.

use std::time::Duration;

use nexus_dbus::Error;
use nexus_model::ErrorKind;
use tokio::time::{error::Elapsed, timeout};
use zbus::OwnedFd;

use super::{CommandArgs, command::options, not_run, streams::Streams};
use crate::{
    bus::{DEADLINE, is_away},
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output,
};

/// How long somebody who pressed Ctrl-C waits for the start of the command, so that it can be ended.
const ABANDON: Duration = Duration::from_secs(2);

/// What the guest answers when it has started a command: its number, standard input, output and error.
type Answer = (u64, OwnedFd, OwnedFd, OwnedFd);

/// A command that was started.
pub(super) struct Started {
    pub(super) id: u64,
    pub(super) streams: Streams,
}

impl Guest<'_> {
    /// Starts a command that needs nobody.
    pub(super) async fn detached(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let Started { id, .. } = self.start(command, env, true, interrupts).await.map_err(not_run)?;
        output::line(id.to_string())?;
        Ok(Exit::OK)
    }

    /// Starts it, as soon as the guest answers.
    pub(super) async fn start(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        detach: bool,
        interrupts: &mut Interrupts,
    ) -> Result<Started, Failure> {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let what = self.what(command);
        let options = || {
            let mut options = options(command, env);
            if detach {
                options.insert("detach", true.into());
            }
            options
        };
        let begin = async |interrupts: &mut Interrupts| {
            let starting = self.bus.patiently(timeout(DEADLINE, self.proxy.exec(&argv, options())));
            tokio::pin!(starting);
            let number = tokio::select! {
                answer = &mut starting => return answer.map_err(|_| {
                    let why = format!("There was no answer within {} s.", DEADLINE.as_secs());
                    self.unsure(&format!("cannot {what}")).because(why)
                }),
                number = interrupts.next() => number,
            };
            let known = tokio::select! {
                known = self.abandon(starting, number) => known,
                _ = interrupts.next() => false,
            };
            Err(if known {
                Failure::silent(Exit::signal(number))
            } else {
                self.unsure("interrupted before the guest answered").exit(Exit::signal(number))
            })
        };
        match self.when_ready(interrupts, begin).await? {
            Ok((id, stdin, stdout, stderr)) => {
                let streams = Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
                Ok(Started { id, streams })
            }
            Err(error) => {
                let failure = self.refused(&what, &error).await;
                let lost = error.kind() == Some(ErrorKind::GuestFailed);
                Err(if lost {
                    failure.hint("See what runs there", format!("nexusctl vm execs {}", self.name))
                } else {
                    failure
                })
            }
        }
    }

    /// Sees to it that a command whose start nobody waits for any longer does not run on without anybody knowing, unless
    /// the guest takes too long: false then.
    async fn abandon(
        &self,
        starting: impl Future<Output = Result<Result<Answer, Error>, Elapsed>>,
        number: u8,
    ) -> bool {
        let signalled = async {
            match starting.await {
                // Its streams are closed at once.
                Ok(Ok((id, ..))) => self.proxy.signal_exec(id, i32::from(number)).await.is_ok(),
                Ok(Err(error)) => !is_away(&error),
                Err(_) => false,
            }
        };
        timeout(ABANDON, signalled).await.unwrap_or(false)
    }

    /// What to say where nobody knows whether the command runs.
    fn unsure(&self, what: &str) -> Failure {
        let name = &self.name;
        Failure::new(what)
            .because(format!("Whether the command runs in VM {name} is not known."))
            .hint("See what runs there", format!("nexusctl vm execs {name}"))
    }
}
