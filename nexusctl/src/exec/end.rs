//! How a command in a guest ended.

use std::time::{Duration, Instant};

use nexus_dbus::Error;
use nexus_model::ErrorKind;
use nix::sys::signal::Signal;
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

/// How long a command may run, from when it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) begun: Instant,
    pub(super) limit: Duration,
}

impl Guest<'_> {
    /// Waits for the end of a command. The daemon may go and come back meanwhile: the command and its streams don't need
    /// it, and its number stays. To give up is to kill it: that is not done before `over` says that its outputs have ended,
    /// which they do not while it runs.
    pub(super) async fn end(
        &self,
        id: u64,
        time: Option<Time>,
        mut over: watch::Receiver<bool>,
    ) -> Result<Exit, Failure> {
        loop {
            let error = match self.proxy.wait_exec(id).await {
                Ok((code, signal)) => {
                    let is_killed = signal == Signal::SIGKILL as i32;
                    return match time.filter(|time| is_killed && time.begun.elapsed() >= time.limit) {
                        Some(time) => Err(self.time_is_up(time)),
                        None => self.exit(code, signal),
                    };
                }
                Err(error) => error,
            };
            let back = async {
                if !(is_absent(&error) || is_away(&error)) {
                    return None;
                }
                self.back().await
            };
            tokio::pin!(back);
            // A restart of the daemon takes less.
            if let Ok(back) = timeout(NOTICE, &mut back).await {
                match back {
                    Some(()) => continue,
                    None => return Err(self.unknown(&error).await),
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
                return Err(self.unknown(&error).await);
            }
        }
    }

    fn time_is_up(&self, time: Time) -> Failure {
        let limit = amount::duration(time.limit);
        Failure::new(format!("the command in VM {} was killed: its time of {limit} was up", self.name))
            .exit(Exit::TIME_UP)
    }

    /// Waits until the agent can be asked again; none when it never will.
    async fn back(&self) -> Option<()> {
        let mut watch = self.bus.watch(&self.path).await.ok()?;
        loop {
            // It answers within milliseconds, or after the next change.
            if let Ok(vm) = self.vm().await {
                if vm.guest_ready {
                    return Some(());
                }
                if !matches!(vm.state.as_str(), "running" | "paused" | "starting") {
                    return None;
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

    async fn unknown(&self, error: &Error) -> Failure {
        let what = format!("learn how the command in VM {} ended", self.name);
        let failure = self.bus.explain(&what, error).await.exit(Exit::NOT_RUN);
        match self.vm().await {
            Ok(_) if error.kind() == Some(ErrorKind::GuestUnavailable) => {
                failure.hint("See what became of it", format!("nexusctl vm history {}", self.name))
            }
            _ => failure,
        }
    }
}
