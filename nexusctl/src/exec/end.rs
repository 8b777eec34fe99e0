//! How a command in a guest ended.

use std::time::{Duration, SystemTime};

use nexus_dbus::{Error, client::VmProperties};
use nexus_model::ErrorKind;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    bus::{NOTICE, is_away},
    failure::{Exit, Failure},
    guest::{Guest, is_absent},
    output::{self, amount},
};

/// How long the daemon, and then the agent, may be away before nobody knows any more how a command ended whose outputs
/// have.
const AWAY: Duration = Duration::from_secs(60);

impl Guest<'_> {
    /// Waits for the end of a command. The daemon may go and come back meanwhile: the command and its streams don't need
    /// it, and its number stays. To give up is to kill it: that is not done before `over` says that its outputs have ended,
    /// which they do not while it runs.
    pub(super) async fn end(&self, id: u64, mut over: watch::Receiver<bool>) -> Result<Exit, Failure> {
        let begun = SystemTime::now();
        loop {
            let error = match self.proxy.wait_exec(id).await {
                Ok((code, signal)) => return self.exit(code, signal),
                Err(error) if error.kind() == Some(ErrorKind::Timeout) => return Err(self.time_is_up()),
                Err(error) => error,
            };
            let back = async {
                if !(is_absent(&error) || is_away(&error)) {
                    return None;
                }
                self.back(begun).await
            };
            tokio::pin!(back);
            // A restart of the daemon takes less.
            if let Ok(back) = timeout(NOTICE, &mut back).await {
                match back {
                    Some(()) => continue,
                    None => return Err(self.unknown(&error, begun).await),
                }
            }
            let name = &self.name;
            let who = if is_away(&error) { "The daemon is away" } else { "The guest's agent is away" };
            let waiting =
                format!("waiting to hear how it ends, for {} at most after its output", amount::duration(AWAY));
            output::note(format!("{who}. The command in VM {name} runs on; {waiting}."));
            let too_late = async {
                // An error is an end as well.
                let _ = over.wait_for(|over| *over).await;
                sleep(AWAY).await;
            };
            let back = tokio::select! {
                back = back => back,
                () = too_late => None,
            };
            if back.is_none() {
                return Err(self.unknown(&error, begun).await);
            }
        }
    }

    fn time_is_up(&self) -> Failure {
        Failure::new(format!("the command in VM {} was killed: its time was up", self.name)).exit(Exit::TIME_UP)
    }

    /// Waits until the agent can be asked again; none when it never will of a command that has begun by then.
    async fn back(&self, begun: SystemTime) -> Option<()> {
        let mut watch = self.bus.watch(&self.path).await.ok()?;
        loop {
            // It answers within milliseconds, or after the next change.
            if let Ok(vm) = self.vm().await {
                if has_ended(&vm, begun) {
                    return None;
                }
                if vm.guest_ready {
                    return Some(());
                }
            }
            watch.changed().await;
        }
    }

    fn exit(&self, code: i32, signal: i32) -> Result<Exit, Failure> {
        match (u8::try_from(code), u8::try_from(signal)) {
            (_, Ok(signal @ 1..)) => Ok(Exit::signal(signal)),
            (Ok(code), _) => Ok(Exit(code)),
            (Err(_), _) => Err(Failure::new(format!("nobody knows how the command in VM {} ended", self.name))
                .because("The guest does not say.")
                .exit(Exit::NOT_RUN)),
        }
    }

    async fn unknown(&self, error: &Error, begun: SystemTime) -> Failure {
        let what = format!("learn how the command in VM {} ended", self.name);
        let failure = match self.vm().await {
            Ok(vm) if has_ended(&vm, begun) => {
                let why = match vm.state.as_str() {
                    "running" | "paused" | "starting" => "The VM was started again meanwhile, and".to_owned(),
                    state => format!("The VM is {state}, and"),
                };
                Failure::new(format!("cannot {what}")).because(format!("{why} the command ended with it."))
            }
            Ok(_) if is_absent(error) => self.absent(&what, error).await,
            _ => return self.bus.explain(&what, error).await.exit(Exit::NOT_RUN),
        };
        failure.hint("See what became of it", format!("nexusctl vm history {}", self.name)).exit(Exit::NOT_RUN)
    }
}

/// Whether the run of a VM that there was then is over.
fn has_ended(vm: &VmProperties, then: SystemTime) -> bool {
    let started = SystemTime::UNIX_EPOCH + Duration::from_micros(vm.started_at);
    !matches!(vm.state.as_str(), "running" | "paused") || started > then
}
