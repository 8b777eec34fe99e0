//! `nexusctl vm start`, `stop`, `restart`, `pause`, `resume` and `kill`.

use std::time::Duration;

use clap::Args;
use nexus_dbus::client::{Options, SupervisedProperties, VmProperties, VmProxy};
use zbus::OwnedObjectPath;

use super::{
    at, find,
    ready::{self, NotReady},
};
use crate::{
    bus::Bus,
    confirm::ConfirmArgs,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    job::Job,
    output::{self, amount},
    several::{Several, listed},
};

/// Which VMs.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "VM")]
    pub(super) names: Vec<String>,
}

/// How long to wait for guests.
#[derive(Debug, Args)]
struct WaitArgs {
    /// Return once the daemon has the request
    #[arg(long)]
    no_wait: bool,
    /// How long a guest may take to answer; the VM boots on after that
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "5m")]
    boot_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    wait: WaitArgs,
    /// How long a guest may take to stop before its VMM is killed [default: what nexus.yaml says]
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration)]
    grace: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    names: Names,
    /// Return once the daemon has the request
    #[arg(long)]
    no_wait: bool,
    /// How long a guest may take to stop before its VMM is killed [default: what nexus.yaml says]
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration)]
    grace: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl Kill {
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        let vms = listed("VM", &self.names.names);
        self.confirm.confirm(&format!("kill {vms}, with what its guest has not written"))
    }
}

/// A VM that something is asked of.
struct Asked<'a> {
    name: &'a str,
    vm: OwnedObjectPath,
    was: Was,
    job: Job,
}

/// How a VM was before something was asked of it.
struct Was {
    state: String,
    /// Whether it was about to start again by itself.
    restart_due: bool,
}

/// What a stop or a kill of a VM that was like this has done, when there was nothing to end.
fn rested(name: &str, was: &Was) -> Option<String> {
    match was.state.as_str() {
        "created" | "stopped" | "failed" if !was.restart_due => Some(format!("VM {name} was not running.")),
        "created" | "stopped" | "failed" | "crashed" => {
            Some(format!("VM {name} was not running, and is not started again by itself."))
        }
        _ => None,
    }
}

pub(super) async fn start(bus: &Bus, args: &Start) -> Result<Exit, Failure> {
    let ask = async |vm: VmProxy<'static>| vm.start(Options::new()).await;
    let mut run = Run::new(bus, "start", "Starting", "is started");
    run.up(&args.names.names, &args.wait, ask).await
}

pub(super) async fn restart(bus: &Bus, args: &Restart) -> Result<Exit, Failure> {
    let ask = async |vm: VmProxy<'static>| vm.restart(stop_options(args.grace)).await;
    let mut run = Run::new(bus, "restart", "Restarting", "is restarted");
    run.up(&args.names.names, &args.wait, ask).await
}

pub(super) async fn stop(bus: &Bus, args: &Stop) -> Result<Exit, Failure> {
    let ask = async |vm: VmProxy<'static>| vm.stop(stop_options(args.grace)).await;
    let mut run = Run::new(bus, "stop", "Stopping", "is stopped");
    let asked = run.ask(&args.names.names, ask).await?;
    let mut interrupts = Interrupts::listen()?;
    for asked in asked {
        if args.no_wait {
            output::line(format!("VM {} is told to stop.", asked.name))?;
            continue;
        }
        let ended = asked.job.wait(bus, &mut interrupts).await;
        if run.several.note(ended)?.is_some() {
            let done = || format!("VM {} {}.", asked.name, run.done);
            output::line(rested(asked.name, &asked.was).unwrap_or_else(done))?;
        }
    }
    run.several.end()
}

/// The same for several VMs.
struct Run<'a> {
    bus: &'a Bus,
    verb: &'static str,
    doing: &'static str,
    done: &'static str,
    several: Several,
}

impl<'a> Run<'a> {
    fn new(bus: &'a Bus, verb: &'static str, doing: &'static str, done: &'static str) -> Self {
        Self { bus, verb, doing, done, several: Several::default() }
    }

    /// Asks for all of it before anything is waited for, so that they do it side by side.
    async fn ask<'n>(
        &mut self,
        names: &'n [String],
        ask: impl AsyncFn(VmProxy<'static>) -> Result<OwnedObjectPath, nexus_dbus::Error>,
    ) -> Result<Vec<Asked<'n>>, Failure> {
        let mut jobs = Vec::new();
        for name in names {
            let what = format!("{} VM {name}", self.verb);
            let title = format!("{} {name}", self.doing);
            let asked = async {
                let vm = find(self.bus, name, &what).await?;
                let was = was(self.bus, &vm, &what).await?;
                let path = self.bus.ask(&what, ask(at(self.bus, &vm, &what).await?)).await?;
                Ok(Asked { name, vm, was, job: Job { what, title, path } })
            };
            jobs.extend(self.several.note(asked.await)?);
        }
        Ok(jobs)
    }

    /// Asks, and waits until the guests have answered.
    async fn up(
        &mut self,
        names: &[String],
        wait: &WaitArgs,
        ask: impl AsyncFn(VmProxy<'static>) -> Result<OwnedObjectPath, nexus_dbus::Error>,
    ) -> Result<Exit, Failure> {
        let asked = self.ask(names, ask).await?;
        let mut interrupts = Interrupts::listen()?;
        let only = asked.len() == 1;
        for asked in asked {
            let name = asked.name;
            if wait.no_wait {
                output::line(format!("VM {name} is told to {}.", self.verb))?;
                continue;
            }
            let up = async {
                asked.job.wait(self.bus, &mut interrupts).await?;
                ready::wait(self.bus, &asked.vm, name, wait.boot_timeout, &mut interrupts)
                    .await
                    .map_err(NotReady::of_lasting)
            };
            if self.several.note(up.await)?.is_none() {
                continue;
            }
            let text = format!("VM {name} {} and its guest has answered.", self.done);
            if only {
                output::done(text, &format!("nexusctl exec {name} -- COMMAND"))?;
            } else {
                output::line(text)?;
            }
        }
        std::mem::take(&mut self.several).end()
    }
}

pub(super) async fn pause(bus: &Bus, names: &[String]) -> Result<Exit, Failure> {
    at_once(bus, names, "pause", |name, _| format!("VM {name} is paused."), async |vm| vm.pause().await).await
}

pub(super) async fn resume(bus: &Bus, names: &[String]) -> Result<Exit, Failure> {
    at_once(bus, names, "resume", |name, _| format!("VM {name} goes on."), async |vm| vm.resume().await).await
}

pub(super) async fn kill(bus: &Bus, args: &Kill) -> Result<Exit, Failure> {
    let done = |name: &str, was: &Was| rested(name, was).unwrap_or_else(|| format!("VM {name} is killed."));
    at_once(bus, &args.names.names, "kill", done, async |vm| vm.kill().await).await
}

/// How a VM is.
async fn was(bus: &Bus, vm: &OwnedObjectPath, what: &str) -> Result<Was, Failure> {
    let state = bus.read::<VmProperties>(what, vm).await?.state;
    let restart_due = bus.read::<SupervisedProperties>(what, vm).await?.next_restart_at != 0;
    Ok(Was { state, restart_due })
}

/// Verbs that are answered when they are done. `done` says that, of a VM of this name that was like this.
async fn at_once(
    bus: &Bus,
    names: &[String],
    verb: &str,
    done: impl Fn(&str, &Was) -> String,
    ask: impl AsyncFn(VmProxy<'static>) -> Result<(), nexus_dbus::Error>,
) -> Result<Exit, Failure> {
    let mut several = Several::default();
    for name in names {
        let what = format!("{verb} VM {name}");
        let asked = async {
            let vm = find(bus, name, &what).await?;
            let was = was(bus, &vm, &what).await?;
            bus.ask(&what, ask(at(bus, &vm, &what).await?)).await.map(|()| was)
        };
        if let Some(was) = several.note(asked.await)? {
            output::line(done(name, &was))?;
        }
    }
    several.end()
}

fn stop_options(grace: Option<Duration>) -> Options<'static> {
    let mut options = Options::new();
    if let Some(grace) = grace {
        let microseconds = nexus_model::microseconds(grace);
        options.insert("timeout-usec", microseconds.into());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_run_is_said_to_stay_so_where_it_would_have_started() {
        let rested = |state: &str, restart_due| rested("web", &Was { state: state.to_owned(), restart_due });
        let (rests, stays) = ("VM web was not running.", "VM web was not running, and is not started again by itself.");
        for (state, restart_due, said) in [
            ("created", false, Some(rests)),
            ("stopped", false, Some(rests)),
            ("failed", false, Some(rests)),
            ("crashed", false, Some(stays)),
            ("crashed", true, Some(stays)),
            // It powered off under `always`, or rebooted.
            ("stopped", true, Some(stays)),
            ("running", false, None),
            ("starting", true, None),
        ] {
            assert_eq!(rested(state, restart_due).as_deref(), said, "{state}");
        }
    }
}
