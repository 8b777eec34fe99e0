//! `nexusctl vm set` and `nexusctl vm reset-failed`.

use clap::{Args, ValueEnum};
use nexus_dbus::client::{SupervisedProxy, VmProperties};
use nexus_model::restart::RestartPolicy;
use zbus::OwnedObjectPath;

use super::{at, find, power::Names};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output,
    several::Several,
};

/// Change settings of a VM, whether it runs or not
///
/// They hold from now on: a policy that is set does not start what is down already, and `no` calls off a restart that is
/// waited for. What a VM is made of (memory, disk, kernel) is said when it is created.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Settings {
    /// When it is started again after it ended: no, on-failure or always
    #[arg(long, value_name = "POLICY")]
    restart_policy: Option<RestartPolicy>,
    /// Whether it starts with the daemon: yes or no
    #[arg(long, value_name = "YES|NO", value_enum, hide_possible_values = true)]
    autostart: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Answer {
    Yes,
    No,
}

pub(super) async fn run(bus: &Bus, args: &Set) -> Result<Exit, Failure> {
    let name = &args.name;
    let what = format!("change VM {name}");
    let path = find(bus, name, &what).await?;
    let vm = at(bus, &path, &what).await?;
    let before: VmProperties = bus.read(&what, &path).await?;
    if let Some(policy) = args.settings.restart_policy {
        bus.ask(&what, vm.set_restart_policy(policy.as_str())).await?;
        output::line(step(name, "Restart policy", &before.restart_policy, policy.as_str()))?;
    }
    if let Some(autostart) = args.settings.autostart {
        bus.ask(&what, vm.set_autostart(autostart == Answer::Yes)).await?;
        let word = |autostart: bool| if autostart { "yes" } else { "no" };
        output::line(step(name, "Autostart", word(before.autostart), word(autostart == Answer::Yes)))?;
    }
    Ok(Exit::OK)
}

fn step(name: &str, setting: &str, before: &str, after: &str) -> String {
    if before == after {
        format!("{setting} of VM {name} is {after}, as it was.")
    } else {
        format!("{setting} of VM {name} is {after}; it was {before}.")
    }
}

pub(super) async fn reset(bus: &Bus, args: &Names) -> Result<Exit, Failure> {
    let mut several = Several::default();
    for name in &args.names {
        if let Some(started) = several.note(reset_one(bus, name).await)? {
            let text = if started { ", and it is started again" } else { "" };
            output::line(format!("The failures of VM {name} are forgotten{text}."))?;
        }
    }
    several.end()
}

/// Whether that started the VM.
async fn reset_one(bus: &Bus, name: &str) -> Result<bool, Failure> {
    let what = format!("forget the failures of VM {name}");
    let path: OwnedObjectPath = find(bus, name, &what).await?;
    let before: VmProperties = bus.read(&what, &path).await?;
    let actor = SupervisedProxy::builder(bus.connection())
        .path(path.clone())
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build();
    bus.ask(&what, async { actor.await.map_err(nexus_dbus::Error::from)?.reset_failed().await }).await?;
    let after: VmProperties = bus.read(&what, &path).await?;
    Ok(before.state == "failed" && after.state != "failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_as_it_was_is_said_to() {
        assert_eq!(step("web", "Autostart", "no", "yes"), "Autostart of VM web is yes; it was no.");
        assert_eq!(step("web", "Autostart", "no", "no"), "Autostart of VM web is no, as it was.");
    }
}
