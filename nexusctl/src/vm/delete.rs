//! `nexusctl vm delete`.

use clap::Args;
use nexus_dbus::client::{Options, VmProperties, WorkspaceProperties};

use super::{at, find};
use crate::{
    bus::Bus,
    confirm::ConfirmArgs,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    job::Job,
    output,
    several::{Several, listed},
};

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Names or ids
    #[arg(required = true, value_name = "VM")]
    names: Vec<String>,
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Delete their workspaces as well, with all that is in them
    #[arg(long)]
    workspaces: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl Delete {
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        let mut what = format!("delete {}", listed("VM", &self.names));
        if self.workspaces {
            what.push_str(" and all that is on disk");
        }
        self.confirm.confirm(&what)
    }
}

pub(super) async fn run(bus: &Bus, args: &Delete) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut several = Several::default();
    for name in &args.names {
        let deleted = delete(bus, name, args, &mut interrupts).await;
        several.note(deleted)?;
    }
    several.end()
}

async fn delete(bus: &Bus, name: &str, args: &Delete, interrupts: &mut Interrupts) -> Result<(), Failure> {
    let what = format!("delete VM {name}");
    let path = find(bus, name, &what).await?;
    let disks = bus.read::<VmProperties>(&what, &path).await?.workspaces;
    let mut options = Options::new();
    for (key, value) in [("force", args.force), ("remove-workspaces", args.workspaces)] {
        if value {
            options.insert(key, true.into());
        }
    }
    let path = bus.ask(&what, at(bus, &path, &what).await?.remove(options)).await?;
    Job { what: what.clone(), title: format!("Deleting {name}"), path }.wait(bus, interrupts).await?;
    let mut left = Vec::new();
    for disk in disks.iter().filter(|_| !args.workspaces) {
        // One that is gone by now is nothing to tell of.
        if let Ok(disk) = bus.read::<WorkspaceProperties>(&what, disk).await {
            left.push(disk.name);
        }
    }
    if left.is_empty() {
        output::line(format!("VM {name} is deleted."))?;
    } else {
        let left = left.join(" ");
        output::done(
            format!("VM {name} is deleted; its workspace stays: {left}."),
            &format!("nexusctl ws delete {left}"),
        )?;
    }
    Ok(())
}
