//! Waiting until a guest agent has answered.

use std::time::Duration;

use nexus_dbus::client::VmProperties;
use zbus::OwnedObjectPath;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{amount, sentence},
    progress::Progress,
};

/// Waits until the guest of the VM at `path` has answered, for at most `limit`. A signal ends the waiting and nothing
/// else.
pub(crate) async fn wait(
    bus: &Bus,
    path: &OwnedObjectPath,
    name: &str,
    limit: Duration,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let progress = Progress::new(format!("Starting {name}"));
    let what = format!("wait for the guest of VM {name}");
    let mut watch = bus.watch(path).await?;
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    loop {
        let vm: VmProperties = bus.read(&what, path).await?;
        if vm.guest_ready {
            return Ok(());
        }
        match vm.state.as_str() {
            "running" => progress.stage("booting, until its agent answers"),
            "starting" => progress.stage("starting the VMM"),
            _ => return Err(ended(&vm)),
        }
        tokio::select! {
            biased;
            number = interrupts.next() => {
                return Err(booting(&vm, &format!("stopped waiting for the guest of VM {name}"))
                    .exit(Exit::signal(number))
                    .for_all());
            }
            () = watch.changed() => {}
            () = &mut deadline => {
                let failure =
                    booting(&vm, &format!("the guest of VM {name} has not answered within {}", amount::duration(limit)));
                return Err(failure.hint("Wait longer", "--timeout TIME"));
            }
        }
    }
}

/// It goes on booting.
fn booting(vm: &VmProperties, what: &str) -> Failure {
    Failure::new(what)
        .because(format!("The VM is {} and goes on booting.", vm.state))
        .hint("See what it writes", format!("nexusctl vm logs {}", vm.name))
}

/// It does not boot any more.
fn ended(vm: &VmProperties) -> Failure {
    let reason = if vm.exit_reason.is_empty() { vm.state_reason.replace('-', " ") } else { vm.exit_reason.clone() };
    let failure = Failure::new(format!("VM {} is {}, and its guest has not answered", vm.name, vm.state))
        .because(sentence(&reason));
    match vm.state.as_str() {
        "paused" => failure.hint("Let it go on", format!("nexusctl vm resume {}", vm.name)),
        "created" | "stopped" => failure.hint("Start it", format!("nexusctl vm start {}", vm.name)),
        _ => failure.hint("See what it wrote", format!("nexusctl vm logs {}", vm.name)),
    }
}
