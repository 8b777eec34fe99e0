//! `nexusctl vm`.

mod create;
mod delete;
mod execs;
mod given_file;
mod history;
mod inspect;
mod list;
mod logs;
mod power;
pub(crate) mod ready;
#[cfg(test)]
pub(crate) mod sample;
mod set;
mod signal;

use clap::Subcommand;
pub(crate) use create::{MachineArgs, variable};
use nexus_dbus::client::VmProxy;
use zbus::OwnedObjectPath;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output::ListArgs,
};

/// Virtual machines
#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Create a VM and do not start it
    Create(create::Create),
    /// List VMs
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything about a VM
    Inspect(inspect::Inspect),
    /// Start VMs and wait until their guests have answered
    Start(power::Start),
    /// Stop VMs: their guests are asked, then they are killed
    Stop(power::Stop),
    /// Stop VMs, if they run, start them, and wait until their guests have answered
    Restart(power::Restart),
    /// Make the virtual CPUs of VMs stand still
    Pause(power::Names),
    /// Make the virtual CPUs of paused VMs go on
    Resume(power::Names),
    /// Kill VMs; what their guests have not written is lost
    Kill(power::Kill),
    Set(set::Set),
    /// Forget the failures of VMs, and start those that were given up on for them
    ///
    /// The count of the restart policy begins anew: more than 5 failures in 10 min, and a VM is given up on. What happened
    /// stays in its history.
    ResetFailed(power::Names),
    /// Delete VMs
    #[command(visible_alias = "rm")]
    Delete(delete::Delete),
    /// Show what a VM wrote to its console
    Logs(logs::Logs),
    /// List the commands that run in a VM and were started through Nexus
    Execs(execs::Execs),
    /// Send a signal to commands in a VM: by default, end them
    Signal(signal::Signal),
    /// Show what states a VM went through, and why
    History(history::History),
}

impl VmCommand {
    /// Asks about what destroys. Before anything else, so that a refusal needs no daemon.
    pub(crate) fn confirm(&self) -> Result<(), Failure> {
        match self {
            Self::Kill(args) => args.confirm(),
            Self::Delete(args) => args.confirm(),
            _ => Ok(()),
        }
    }

    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => create::run(bus, &args).await,
            Self::List(args) => list::run(bus, &args).await,
            Self::Inspect(args) => inspect::run(bus, &args).await,
            Self::Start(args) => power::start(bus, &args).await,
            Self::Stop(args) => power::stop(bus, &args).await,
            Self::Restart(args) => power::restart(bus, &args).await,
            Self::Pause(args) => power::pause(bus, &args.names).await,
            Self::Resume(args) => power::resume(bus, &args.names).await,
            Self::Kill(args) => power::kill(bus, &args).await,
            Self::Set(args) => set::run(bus, &args).await,
            Self::ResetFailed(args) => set::reset(bus, &args).await,
            Self::Delete(args) => delete::run(bus, &args).await,
            Self::Logs(args) => logs::run(bus, &args).await,
            Self::Execs(args) => execs::run(bus, &args).await,
            Self::Signal(args) => signal::run(bus, &args).await,
            Self::History(args) => history::run(bus, &args).await,
        }
    }
}

/// The object of the VM of this name or id.
pub(crate) async fn find(bus: &Bus, name: &str, what: &str) -> Result<OwnedObjectPath, Failure> {
    let manager = bus.manager().await?;
    bus.ask(what, manager.get_vm(name)).await
}

/// Calls the VM at a path.
pub(crate) async fn at(bus: &Bus, path: &OwnedObjectPath, what: &str) -> Result<VmProxy<'static>, Failure> {
    let proxy =
        VmProxy::builder(bus.connection()).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No);
    bus.ask(what, proxy.build()).await
}

/// What runs a VM, and whether that keeps the guest from the host.
pub(crate) fn vmm(vm: &nexus_dbus::client::VmProperties) -> String {
    if vm.isolated || vm.vmm.is_empty() { vm.vmm.clone() } else { format!("{} (not isolated)", vm.vmm) }
}
