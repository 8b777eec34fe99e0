//! `nexusctl exec`, and what `nexusctl run` shares with it: a command in a guest whose streams, signals and exit code are
//! nexusctl's own.

mod end;
mod streams;

use std::{collections::HashMap, time::Duration};

use clap::Args;
use nexus_dbus::{
    Error,
    client::{GuestProxy, Options, VmProperties},
};
use nexus_model::ErrorKind;
use zbus::{OwnedFd, OwnedObjectPath};

use self::streams::{Channel, Copied, Streams};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{self, amount},
    vm::{
        self,
        ready::{self, NotReady},
    },
};

/// How long somebody who pressed Ctrl-C waits for the start of the command, so that it can be ended.
const ABANDON: Duration = Duration::from_secs(2);

/// What the guest answers when it has started a command: its number, standard input, output and error.
type Started = (u64, OwnedFd, OwnedFd, OwnedFd);

/// A command, and how it is run.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// Run it as this user of the guest [default: root]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Run it in this folder of the guest
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) argv: Vec<String>,
}

/// Run a command in a VM, with the caller's input and output
///
/// The command's exit code is that of nexusctl, or 128 and the number of the signal that ended it. 125: the command could
/// not be tried, or nobody knows how it ended. 126: it can't be executed. 127: there is no such command.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// A variable for the command; without a value it is that of the caller
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = vm::variable)]
    env: Vec<(String, String)>,
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m")]
    timeout: Duration,
    /// A name or an id
    #[arg(value_name = "VM")]
    vm: String,
    #[command(flatten)]
    command: CommandArgs,
}

impl Exec {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let what = format!("run a command in VM {}", self.vm);
        let guest = async {
            let path = vm::find(bus, &self.vm, &what).await?;
            Guest::at(bus, path, self.vm.clone(), self.timeout).await
        };
        let guest = guest.await.map_err(not_run)?;
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

/// A guest that commands are run in.
pub(crate) struct Guest<'a> {
    bus: &'a Bus,
    path: OwnedObjectPath,
    proxy: GuestProxy<'static>,
    /// The VM's name, for people.
    name: String,
    /// How long it may take to boot.
    boot: Duration,
}

impl<'a> Guest<'a> {
    /// The guest of the VM at `path`.
    pub(crate) async fn at(bus: &'a Bus, path: OwnedObjectPath, name: String, boot: Duration) -> Result<Self, Failure> {
        let proxy =
            GuestProxy::builder(bus.connection()).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No);
        let proxy = bus.ask("reach the guest", proxy.build()).await?;
        Ok(Self { bus, path, proxy, name, boot })
    }

    /// Runs a command with the caller's streams until its end.
    pub(crate) async fn command(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let (id, streams) = self.start(command, env, interrupts).await.map_err(not_run)?;
        let (copied, mut copies) = tokio::sync::mpsc::unbounded_channel();
        streams.copy(&copied);
        drop(copied);

        let mut waiting = Box::pin(self.end(id));
        let mut ended: Option<Result<Exit, Failure>> = None;
        let mut lost: Option<Failure> = None;
        let mut open = 2_u8;
        // The end of the command is not the end of its output.
        while ended.is_none() || open > 0 {
            tokio::select! {
                result = &mut waiting, if ended.is_none() => {
                    // Without the guest there is nobody who would close the streams.
                    if result.is_err() {
                        open = 0;
                    }
                    ended = Some(result);
                }
                Some(copied) = copies.recv() => match copied {
                    Copied { channel: Channel::Input, .. } => {}
                    Copied { result, .. } => {
                        open = open.saturating_sub(1);
                        if let Err(failure) = result {
                            lost.get_or_insert(failure);
                        }
                    }
                },
                number = interrupts.next() => match ended {
                    // Only what the command left behind still holds the streams.
                    Some(_) => return Err(Failure::silent(Exit::signal(number))),
                    None => self.signal(id, number).await?,
                },
            }
        }
        match (ended, lost) {
            (Some(Ok(_)), Some(lost)) => Err(lost),
            (Some(result), _) => result,
            (None, _) => Err(Failure::silent(Exit::NOT_RUN)),
        }
    }

    /// Starts it, as soon as the guest answers.
    async fn start(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<(u64, Streams), Failure> {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let what = format!("run {} in VM {}", argv.first().copied().unwrap_or_default(), self.name);
        let options = || {
            let mut options = Options::new();
            if let Some(user) = &command.user {
                options.insert("user", user.as_str().into());
            }
            if let Some(folder) = &command.workdir {
                options.insert("working-directory", folder.as_str().into());
            }
            if !env.is_empty() {
                let env: HashMap<&str, &str> = env.iter().map(|(name, value)| (&**name, &**value)).collect();
                options.insert("env", env.into());
            }
            options
        };
        let mut waited = false;
        loop {
            let starting = self.proxy.exec(&argv, options());
            tokio::pin!(starting);
            let answer = tokio::select! {
                answer = &mut starting => answer,
                number = interrupts.next() => {
                    tokio::select! {
                        () = self.abandon(starting, number) => {}
                        _ = interrupts.next() => {}
                    }
                    return Err(Failure::silent(Exit::signal(number)));
                }
            };
            let error = match answer {
                Ok((id, stdin, stdout, stderr)) => {
                    return Ok((id, Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() }));
                }
                Err(error) => error,
            };
            if is_absent(&error) && !waited {
                self.ready(interrupts).await?;
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
    /// the guest takes too long.
    async fn abandon(&self, starting: impl Future<Output = Result<Started, Error>>, number: u8) {
        let signalled = async {
            // Its streams are closed at once.
            if let Ok((id, ..)) = starting.await {
                let _ = self.proxy.signal_exec(id, i32::from(number)).await;
            }
        };
        let _ = tokio::time::timeout(ABANDON, signalled).await;
    }

    /// Waits for a guest that is booting.
    async fn ready(&self, interrupts: &mut Interrupts) -> Result<(), Failure> {
        ready::wait(self.bus, &self.path, &self.name, self.boot, interrupts).await.map_err(NotReady::of_lasting)
    }

    /// Passes a signal on. The command decides what it makes of it.
    async fn signal(&self, id: u64, number: u8) -> Result<(), Failure> {
        let what = format!("pass signal {number} on to the command in VM {}", self.name);
        match self.bus.ask(&what, self.proxy.signal_exec(id, i32::from(number))).await {
            Ok(()) => Ok(()),
            // It has ended meanwhile: its end is on its way.
            Err(failure) if failure.kind() == Some(ErrorKind::NotFound) => Ok(()),
            Err(failure) => {
                output::note(failure.to_string());
                Err(Failure::silent(Exit::signal(number)))
            }
        }
    }

    async fn vm(&self) -> Result<VmProperties, Failure> {
        self.bus.read("see how the VM is", &self.path).await
    }
}

/// Whether an error says that there is no agent to talk to.
pub(crate) fn is_absent(error: &Error) -> bool {
    match error {
        Error::Nexus { kind, .. } => *kind == ErrorKind::GuestUnavailable,
        Error::Bus(zbus::Error::FDO(error)) => {
            matches!(**error, zbus::fdo::Error::UnknownInterface(_) | zbus::fdo::Error::UnknownMethod(_))
        }
        Error::Bus(_) => false,
    }
}
