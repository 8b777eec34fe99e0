//! Waiting until a guest agent has answered.

use std::time::Duration;

use nexus_dbus::client::{ConnectionProperties, VmProperties};
use zbus::OwnedObjectPath;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{amount, sentence},
    progress::Progress,
};

/// Why the waiting ended without an answer.
pub(crate) enum NotReady {
    /// A signal came. The VM goes on.
    Interrupted(Box<VmProperties>, u8),
    /// It took too long. The VM goes on; that is why its agent has not answered, as far as nexusd knows.
    TooLong(Box<VmProperties>, Duration, String),
    /// The VM is in a state in which no guest answers.
    Ended(Box<VmProperties>),
    /// Nobody can say how the VM is.
    Failed(Failure),
}

impl From<Failure> for NotReady {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Waits until the guest of the VM at `path` has answered, for at most `limit`.
pub(crate) async fn wait(
    bus: &Bus,
    path: &OwnedObjectPath,
    name: &str,
    limit: Duration,
    interrupts: &mut Interrupts,
) -> Result<(), NotReady> {
    let progress = Progress::new(format!("Starting {name}"));
    let what = format!("wait for the guest of VM {name}");
    let mut watch = bus.watch(path).await?;
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    loop {
        let vm: VmProperties = bus.read(&what, path).await?;
        match vm.state.as_str() {
            "paused" => return Err(NotReady::Ended(Box::new(vm))),
            _ if vm.guest_ready => return Ok(()),
            "running" => progress.stage("booting, until its agent answers"),
            "starting" => progress.stage("starting the VMM"),
            // Its restart policy is at work; it is `failed` when that gives up.
            "crashed" if vm.restart_policy != "no" => progress.stage("crashed, until it is started again"),
            "stopped" if vm.state_reason == "guest-reboot" => progress.stage("rebooting"),
            _ => return Err(NotReady::Ended(Box::new(vm))),
        }
        tokio::select! {
            biased;
            number = interrupts.next() => return Err(NotReady::Interrupted(Box::new(vm), number)),
            () = watch.changed() => {}
            () = &mut deadline => {
                let why = silence(bus, &vm).await;
                return Err(NotReady::TooLong(Box::new(vm), limit, why));
            }
        }
    }
}

/// Why the agent of a VM does not answer, in one sentence; empty where nobody knows.
pub(crate) async fn silence(bus: &Bus, vm: &VmProperties) -> String {
    for path in &vm.connections {
        match bus.read::<ConnectionProperties>("see why the guest does not answer", path).await {
            Ok(connection) if connection.is_of_agent() => return connection.failure_reason,
            _ => {}
        }
    }
    String::new()
}

impl NotReady {
    /// What failed, and how nexusctl ends for it.
    pub(crate) fn what(&self) -> Failure {
        match self {
            Self::Interrupted(vm, number) => Failure::new(format!("stopped waiting for the guest of VM {}", vm.name))
                .exit(Exit::signal(*number))
                .for_all(),
            Self::TooLong(vm, limit, why) => {
                let limit = amount::duration(*limit);
                let failure = Failure::new(format!("the guest of VM {} has not answered within {limit}", vm.name));
                if why.is_empty() { failure } else { failure.because(sentence(why)) }
            }
            Self::Ended(vm) if vm.state == "paused" => Failure::new(format!("VM {} is paused", vm.name)),
            Self::Ended(vm) if vm.state == "created" => Failure::new(format!("VM {} was never started", vm.name)),
            Self::Ended(vm) => {
                let reason = match vm.exit_reason.as_str() {
                    "" => vm.state_reason.replace('-', " "),
                    reason => reason.to_owned(),
                };
                Failure::new(format!("VM {} is {}, and its guest has not answered", vm.name, vm.state))
                    .because(sentence(&reason))
            }
            Self::Failed(failure) => failure.clone(),
        }
    }

    /// The same of a VM that stays, with what to do next.
    pub(crate) fn of_lasting(self) -> Failure {
        let failure = self.what();
        let (vm, goes_on) = match &self {
            Self::Interrupted(vm, _) | Self::TooLong(vm, ..) => (vm, true),
            Self::Ended(vm) => (vm, false),
            Self::Failed(_) => return failure,
        };
        let name = &vm.name;
        let answered = vm.state == "running" && vm.ready_duration_usec != 0;
        let failure = match goes_on {
            true if answered => failure.because("The VM runs, and its guest has answered before."),
            true => failure.because(format!("The VM is {} and goes on booting.", vm.state)),
            false => failure,
        };
        match (vm.state.as_str(), &self) {
            ("paused", _) => failure.hint("Let it go on", format!("nexusctl vm resume {name}")),
            ("created" | "stopped", _) => failure.hint("Start it", format!("nexusctl vm start {name}")),
            (_, Self::TooLong(..)) if answered => failure
                .hint("See what happened to it", format!("nexusctl events --vm {name}"))
                .hint("Start it anew", format!("nexusctl vm restart {name}")),
            (_, Self::TooLong(..)) => failure
                .hint("See what it writes", format!("nexusctl vm logs {name}"))
                .hint("See what nexusd says", format!("journalctl --user NEXUS_VM={name}"))
                .hint("Wait longer", "--boot-timeout TIME"),
            ("crashed" | "failed", Self::Ended(_)) => failure
                .hint("See what happened", format!("nexusctl vm history {name}"))
                .hint("See what it wrote", format!("nexusctl vm logs {name}"))
                .hint("Start it", format!("nexusctl vm start {name}")),
            _ => failure.hint("See what it writes", format!("nexusctl vm logs {name}")),
        }
    }
}
