//! The guest of a VM, which may still be booting.

use std::time::Duration;

use nexus_dbus::{
    Error,
    client::{GuestProxy, VmProperties},
};
use nexus_model::ErrorKind;
use tokio::time::{Instant, sleep, timeout};
use zbus::{OwnedObjectPath, proxy::CacheProperties};

use crate::{
    bus::{Bus, DEADLINE},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::sentence,
    vm::{
        self,
        ready::{self, NotReady},
    },
};

/// Between two questions to a guest that is told to be there and is not.
const PAUSE: Duration = Duration::from_millis(100);

/// A guest that something is asked of.
pub(crate) struct Guest<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) path: OwnedObjectPath,
    pub(crate) proxy: GuestProxy<'static>,
    /// The VM's name, for people.
    pub(crate) name: String,
    /// How long it may take to boot.
    boot: Duration,
}

impl<'a> Guest<'a> {
    /// The guest of the VM at `path`.
    pub(crate) async fn at(bus: &'a Bus, path: OwnedObjectPath, name: String, boot: Duration) -> Result<Self, Failure> {
        let proxy = GuestProxy::builder(bus.connection()).path(path.clone()).cache_properties(CacheProperties::No);
        let proxy = bus.ask("reach the guest", proxy.build()).await?;
        Ok(Self { bus, path, proxy, name, boot })
    }

    /// The guest of the VM of this name or id.
    pub(crate) async fn find(bus: &'a Bus, name: &str, what: &str, boot: Duration) -> Result<Self, Failure> {
        bus.patiently(async {
            let path = vm::find(bus, name, what).await?;
            Self::at(bus, path, name.to_owned(), boot).await
        })
        .await
    }

    /// Waits until it answers, for as long as it may take to boot.
    pub(crate) async fn answers(&self, interrupts: &mut Interrupts) -> Result<(), Failure> {
        self.ready(self.boot, interrupts).await
    }

    async fn ready(&self, limit: Duration, interrupts: &mut Interrupts) -> Result<(), Failure> {
        ready::wait(self.bus, &self.path, &self.name, limit, interrupts).await.map_err(NotReady::of_lasting)
    }

    /// What it answers to `question`, as soon as it answers.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        interrupts: &mut Interrupts,
        question: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let asked = async |interrupts: &mut Interrupts| self.ask_once(what, interrupts, question()).await;
        match self.when_ready(interrupts, asked).await? {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.bus.explain(what, &error).await),
        }
    }

    /// What it answers to `question` now.
    pub(crate) async fn ask_now<T>(
        &self,
        what: &str,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let question = async {
            match question.await {
                Err(error) if is_absent(&error) => Ok(Err(error)),
                answer => answer.map(Ok),
            }
        };
        match self.bus.ask(what, question).await? {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.absent(what, &error).await),
        }
    }

    /// What to say where it is not there to be asked.
    pub(crate) async fn absent(&self, what: &str, error: &Error) -> Failure {
        match self.vm().await {
            Ok(vm) if !matches!(vm.state.as_str(), "running" | "starting") => {
                NotReady::Ended(Box::new(vm)).of_lasting()
            }
            // Without the agent there is nothing on the bus that could say more.
            Ok(vm) if error.kind().is_none() => {
                let why = match ready::silence(self.bus, &vm).await {
                    why if why.is_empty() => "Its guest has not answered yet.".to_owned(),
                    why => sentence(&why),
                };
                Failure::new(format!("cannot {what}"))
                    .because(why)
                    .hint("See what it writes", format!("nexusctl vm logs {}", self.name))
            }
            _ => self.bus.explain(what, error).await,
        }
    }

    /// What it answers to one question; a signal, or no answer, is a failure.
    pub(crate) async fn ask_once<T>(
        &self,
        what: &str,
        interrupts: &mut Interrupts,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Failure> {
        tokio::select! {
            answer = self.bus.patiently(timeout(DEADLINE, question)) => answer.map_err(|_| {
                let why = format!("There was no answer within {} s.", DEADLINE.as_secs());
                Failure::new(format!("cannot {what}")).because(why)
            }),
            number = interrupts.next() => Err(Failure::silent(Exit::signal(number))),
        }
    }

    /// Asks again and again while there is nobody to answer, for as long as it may take to boot.
    pub(crate) async fn when_ready<T>(
        &self,
        interrupts: &mut Interrupts,
        mut ask: impl AsyncFnMut(&mut Interrupts) -> Result<Result<T, Error>, Failure>,
    ) -> Result<Result<T, Error>, Failure> {
        let until = Instant::now() + self.boot;
        let mut waited = false;
        loop {
            let answer = ask(interrupts).await?;
            let left = until.saturating_duration_since(Instant::now());
            match answer {
                Err(error) if is_absent(&error) && !left.is_zero() => {
                    // What is told of a guest that has just gone may be older than that answer.
                    if waited {
                        sleep(PAUSE).await;
                    }
                    self.ready(left, interrupts).await?;
                    waited = true;
                }
                answer => return Ok(answer),
            }
        }
    }

    /// What to say where it could not start a command.
    pub(crate) async fn refused(&self, what: &str, error: &Error) -> Failure {
        let failure = self.bus.explain(what, error).await;
        match error.kind() {
            Some(ErrorKind::NotFound) => failure.exit(Exit::NO_COMMAND),
            Some(ErrorKind::PermissionDenied) => failure.exit(Exit::NOT_EXECUTABLE),
            _ => failure,
        }
    }

    /// How the VM is.
    pub(crate) async fn vm(&self) -> Result<VmProperties, Failure> {
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
