//! How a command in a guest ended.

use std::time::Duration;

use futures_util::future::join;
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

/// Between two questions how it ended.
const PAUSE: Duration = Duration::from_millis(50);

impl Guest<'_> {
    /// Waits for the end of a command. The daemon may go and come back meanwhile: the command and its streams don't need
    /// it, and its number stays. To give up is to kill it: that is not done before `over` says that its outputs have ended,
    /// which they do not while it runs.
    pub(super) async fn end(&self, id: u64, mut over: watch::Receiver<bool>) -> Result<Exit, Failure> {
        let run = async { self.vm().await.ok().map(|vm| vm.started_at) };
        let (mut ended, run) = join(self.proxy.wait_exec(id), run).await;
        loop {
            let error = match ended {
                Ok((code, signal)) => return self.exit(code, signal),
                Err(error) if error.kind() == Some(ErrorKind::Timeout) => return Err(self.time_is_up()),
                Err(error) => error,
            };
            let back = async {
                if !(is_absent(&error) || is_away(&error)) {
                    return None;
                }
                self.back(run).await
            };
            tokio::pin!(back);
            // A restart of the daemon takes less.
            let back = match timeout(NOTICE, &mut back).await {
                Ok(back) => back,
                Err(_) => {
                    self.say_waiting(&error).await;
                    let too_late = async {
                        // An error is an end as well.
                        let _ = over.wait_for(|over| *over).await;
                        sleep(AWAY).await;
                    };
                    tokio::select! {
                        back = back => back,
                        () = too_late => None,
                    }
                }
            };
            if back.is_none() {
                return Err(self.unknown(&error, run).await);
            }
            // What is told of a guest that has just gone, or is about to stand still, may be older than that answer.
            sleep(PAUSE).await;
            ended = self.proxy.wait_exec(id).await;
        }
    }

    async fn say_waiting(&self, error: &Error) {
        let name = &self.name;
        let state = self.vm().await.map_or_else(|_| String::new(), |vm| vm.state);
        if matches!(state.as_str(), "paused" | "stopping") {
            return output::note(format!("VM {name} is {state}, and the command with it."));
        }
        let who = if is_away(error) { "The daemon is away" } else { "The guest's agent is away" };
        let waiting = format!("waiting to hear how it ends, for {} at most after its output", amount::duration(AWAY));
        output::note(format!("{who}. The command in VM {name} runs on; {waiting}."));
    }

    fn time_is_up(&self) -> Failure {
        Failure::new(format!("the command in VM {} was killed: its time was up", self.name)).exit(Exit::TIME_UP)
    }

    /// Waits until the agent can be asked again; none when it never will of a command of that run of the VM.
    async fn back(&self, run: Option<u64>) -> Option<()> {
        let mut watch = self.bus.watch(&self.path).await.ok()?;
        loop {
            // It answers within milliseconds, or after the next change.
            if let Ok(vm) = self.vm().await {
                if is_over(&vm, run) {
                    return None;
                }
                if vm.guest_ready && vm.state != "paused" {
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

    async fn unknown(&self, error: &Error, run: Option<u64>) -> Failure {
        let what = format!("learn how the command in VM {} ended", self.name);
        let failure = match self.vm().await {
            Ok(vm) if is_over(&vm, run) => {
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

/// Whether a run of a VM, that began then, is over.
fn is_over(vm: &VmProperties, began: Option<u64>) -> bool {
    let runs = matches!(vm.state.as_str(), "running" | "paused" | "stopping");
    !runs || began.is_some_and(|began| vm.started_at != began)
}
