//! `nexusctl exec`, and what `nexusctl run` shares with it: a command in a guest whose streams, signals and exit code are
//! nexusctl's own.

mod end;
mod streams;
mod terminal;

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use nexus_dbus::{
    Error,
    client::{GuestProxy, Options, VmProperties},
};
use nexus_model::ErrorKind;
use tokio::{
    sync::watch,
    time::{Instant, error::Elapsed, sleep, timeout},
};
use zbus::{OwnedFd, OwnedObjectPath};

use self::streams::{Channel, Copied, Streams};
pub(crate) use self::terminal::Shown;
use crate::{
    bus::{Bus, DEADLINE, is_away},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{self, amount},
    terminal::DetachKeys,
    vm::{
        self,
        ready::{self, NotReady},
    },
};

/// How long somebody who pressed Ctrl-C waits for the start of the command, so that it can be ended.
const ABANDON: Duration = Duration::from_secs(2);

/// Between two tries to start a command in a guest that is told to be there and is not.
const PAUSE: Duration = Duration::from_millis(100);

/// What the guest answers when it has started a command: its number, standard input, output and error.
type Started = (u64, OwnedFd, OwnedFd, OwnedFd);

/// A command, and how it is run.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// Pass standard input on to the command; otherwise its input is empty
    #[arg(short, long)]
    pub(crate) interactive: bool,
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

/// Run a command in a VM, with the caller's output and, where asked for, input
///
/// When nexusctl ends before the command does, however that is, the command is killed with all that it started, unless it
/// is detached. The command's exit code is that of nexusctl, or 128 and the number of the signal that ended it. 125: the command could
/// not be tried, or nobody knows how it ended. 126: it can't be executed. 127: there is no such command.
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
    timeout: Duration,
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
        let guest = async {
            let path = vm::find(bus, &self.vm, &what).await?;
            Guest::at(bus, path, self.vm.clone(), self.timeout).await
        };
        let guest = tokio::select! {
            guest = bus.patiently(guest) => guest.map_err(not_run)?,
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

    /// Runs a command on a terminal that ends with this viewer of it.
    async fn on_terminal(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let what = self.what(command);
        let keys = DetachKeys::none();
        let opened =
            self.open_terminal(&what, &argv, || options(command, env), command.interactive, keys, interrupts).await;
        match self.show(opened.map_err(not_run)?, interrupts).await? {
            Shown::Exit(exit) => Ok(exit),
            // Nothing that is typed means that.
            Shown::Detached => Err(Failure::silent(Exit::NOT_RUN)),
        }
    }

    /// Starts a command that needs nobody.
    async fn detached(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let (id, _streams) = self.start(command, env, true, interrupts).await.map_err(not_run)?;
        output::line(id.to_string())?;
        Ok(Exit::OK)
    }

    /// Runs a command with the caller's streams until its end.
    pub(crate) async fn command(
        &self,
        command: &CommandArgs,
        env: &[(String, String)],
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let (id, streams) = self.start(command, env, false, interrupts).await.map_err(not_run)?;
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
                    if result.is_err() {
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

    /// Starts it, as soon as the guest answers.
    async fn start(
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

    /// Passes a signal on. Somebody who sends a second one meanwhile does not want to wait for that.
    async fn pass_on(&self, id: u64, number: u8, interrupts: &mut Interrupts) -> Result<(), Failure> {
        tokio::select! {
            passed = self.bus.patiently(self.signal(id, number)) => passed,
            _ = interrupts.next() => Err(self.left(number)),
        }
    }

    /// What to say where a command could not be told of a signal.
    fn left(&self, number: u8) -> Failure {
        let name = &self.name;
        Failure::new(format!("the command in VM {name} was not told of signal {number}"))
            .because("Its guest kills it, with all that it started, when it sees that nexusctl has gone.")
            .hint("See whether it has, once the daemon is back", format!("nexusctl vm execs {name}"))
            .exit(Exit::signal(number))
    }

    /// Waits for a guest that is booting.
    async fn ready(&self, limit: Duration, interrupts: &mut Interrupts) -> Result<(), Failure> {
        ready::wait(self.bus, &self.path, &self.name, limit, interrupts).await.map_err(NotReady::of_lasting)
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
                Err(self.left(number))
            }
        }
    }

    /// What is being done, for people.
    fn what(&self, command: &CommandArgs) -> String {
        let program = command.argv.first().map(String::as_str).unwrap_or_default();
        format!("run {program} in VM {}", self.name)
    }

    async fn vm(&self) -> Result<VmProperties, Failure> {
        self.bus.read("see how the VM is", &self.path).await
    }
}

/// What a command is to be run with, as `Guest.Exec` and `Guest.OpenShell` take it.
fn options(command: &CommandArgs, env: &[(String, String)]) -> Options<'static> {
    let mut options = Options::new();
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
