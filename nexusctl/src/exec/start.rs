//! The start of a command, in a guest that may still be booting.

use std::time::Duration;

use nexus_dbus::Error;
use nexus_model::ErrorKind;
use tokio::time::{Instant, error::Elapsed, sleep, timeout};
use zbus::OwnedFd;

use super::{CommandArgs, Guest, command::options, is_absent, not_run, streams::Streams};
use crate::{
    bus::{DEADLINE, is_away},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output,
};

/// How long somebody who pressed Ctrl-C waits for the start of the command, so that it can be ended.
const ABANDON: Duration = Duration::from_secs(2);

/// Between two tries to start a command in a guest that is told to be there and is not.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What the guest answers when it has started a command: its number, standard input, output and error.
type Started = (u64, OwnedFd, OwnedFd, OwnedFd);

impl Guest<'_> {
    /// Starts a command that needs nobody.
    pub(super) async fn detached(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let (id, _streams) = self.start(command, env, true, interrupts).await.map_err(not_run)?;
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
    ) -> Result<(u64, Streams), Failure> {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let what = self.what(command);
        let options = || {
            let mut options = options(command, env);
            if detach {
                options.insert("detach", true.into());
            }
            options
        };
        let until = Instant::now() + self.boot;
        let mut waited = false;
        loop {
            let starting = self.bus.patiently(timeout(DEADLINE, self.proxy.exec(&argv, options())));
            tokio::pin!(starting);
            let answer = tokio::select! {
                answer = &mut starting => answer,
                number = interrupts.next() => {
                    let known = tokio::select! {
                        known = self.abandon(starting, number) => known,
                        _ = interrupts.next() => false,
                    };
                    return Err(if known {
                        Failure::silent(Exit::signal(number))
                    } else {
                        self.unsure("interrupted before the guest answered").exit(Exit::signal(number))
                    });
                }
            };
            let Ok(answer) = answer else {
                let why = format!("There was no answer within {} s.", DEADLINE.as_secs());
                return Err(self.unsure(&format!("cannot {what}")).because(why));
            };
            let error = match answer {
                Ok((id, stdin, stdout, stderr)) => {
                    return Ok((id, Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() }));
                }
                Err(error) => error,
            };
            let left = until.saturating_duration_since(Instant::now());
            if is_absent(&error) && !left.is_zero() {
                // What is told of a guest that has just gone may be older than that answer.
                if waited {
                    sleep(PAUSE).await;
                }
                self.ready(left, interrupts).await?;
                waited = true;
                continue;
            }
            let failure = self.bus.explain(&what, &error).await;
            return Err(match error.kind() {
                Some(ErrorKind::NotFound) => failure.exit(Exit::NO_COMMAND),
                Some(ErrorKind::PermissionDenied) => failure.exit(Exit::NOT_EXECUTABLE),
                _ => failure,
            });
        }
    }

    /// Sees to it that a command whose start nobody waits for any longer does not run on without anybody knowing, unless
    /// the guest takes too long: false then.
    async fn abandon(
        &self,
        starting: impl Future<Output = Result<Result<Started, Error>, Elapsed>>,
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
