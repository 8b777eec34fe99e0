//! `nexusctl run`: a VM for one command.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Args;
use nexus_dbus::client::{Options, VmProperties};
use nexus_model::ErrorKind;
use zbus::OwnedObjectPath;

use crate::{
    bus::Bus,
    exec::{CommandArgs, not_run},
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    job::Job,
    output::{self, amount},
    vm::{self, MachineArgs, ready},
};

/// Run a command in a VM of its own: create, start, run, remove
///
/// The VM and its disk are removed at the end, whatever that is: the command's, a signal's or nexusctl's own. Exit codes
/// are those of exec.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The VM's name [default: one that Nexus makes up]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    name: String,
    #[command(flatten)]
    machine: MachineArgs,
    /// How long the guest may take to answer
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "5m")]
    boot_timeout: Duration,
    /// The image to make its disk from
    image: String,
    #[command(flatten)]
    command: CommandArgs,
}

/// Remove a VM once standard input ends without a word
///
/// Not for people: nexusctl run starts it, so that its VM is removed even if nexusctl is killed.
#[derive(Debug, Args)]
pub(crate) struct Guard {
    /// The VM's id
    vm: String,
}

/// Why there is no exit code of a command.
struct NoExit {
    failure: Failure,
    /// Whether it came to running it. If not, what becomes of the VM is to be told, once that is known.
    ran: bool,
}

/// What became of a VM that is not wanted any more.
enum Removal {
    Done,
    /// By somebody else.
    Underway,
}

impl Run {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let what = format!("run a VM of image {}", self.image);
        let mut options = self.machine.options();
        for (key, value) in [("image", self.image.as_str()), ("restart-policy", "no"), ("bind", "caller")] {
            options.insert(key, value.into());
        }
        options.insert("ephemeral", true.into());
        let manager = bus.manager().await?;
        let asked = bus.patiently(bus.ask(&what, manager.run_vm(&self.name, options)));
        let (path, job) = asked.await.map_err(not_run)?;
        // From here on there is something to remove.
        let result = self.with(bus, &path, job, &what, &mut interrupts).await;
        let removed = remove(bus, &path, &mut interrupts).await;
        match (result, removed) {
            (Err(NoExit { failure, ran }), Ok(removal)) => {
                let what = match removal {
                    Removal::Done => "The VM is removed.",
                    Removal::Underway => "The VM is being removed.",
                };
                Err(if ran { failure } else { failure.because(what) })
            }
            (Err(NoExit { failure, .. }), Err(removed)) => {
                output::note(removed.to_string());
                Err(failure)
            }
            (Ok(exit), Ok(_)) => Ok(exit),
            // The command's own code matters more than what is left of its VM, and that is told.
            (Ok(exit), Err(removed)) => {
                output::note(removed.to_string());
                Err(Failure::silent(if exit == Exit::OK { Exit::NOT_RUN } else { exit }))
            }
        }
    }

    async fn with(
        &self,
        bus: &Bus,
        path: &OwnedObjectPath,
        job: OwnedObjectPath,
        what: &str,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, NoExit> {
        let not_started = |failure| NoExit { failure, ran: false };
        let start = async {
            let vm: VmProperties = bus.read(what, path).await?;
            // The job is bound to this process; what comes after it is the guard's.
            let guard = guard(&vm.id)?;
            let job = Job { what: format!("start VM {}", vm.name), title: format!("Starting {}", vm.name), path: job };
            job.wait(bus, interrupts).await?;
            let ready = ready::wait(bus, path, &vm.name, self.boot_timeout, interrupts).await;
            ready.map_err(|error| {
                // Its console goes with it.
                let image = &self.image;
                error.what().because("The command did not run.").hint(
                    "To see what such a VM writes, make one that stays",
                    format!("nexusctl vm create NAME --image {image}"),
                )
            })?;
            Ok((vm.name, guard))
        };
        let (name, guard) = start.await.map_err(|failure: Failure| match failure.code() {
            // Whatever was being waited for does not go on: the VM goes.
            exit if exit.is_signal() => {
                not_started(Failure::new("interrupted before the command ran").exit(exit).for_all())
            }
            _ => not_started(not_run(failure)),
        })?;
        let guest = Guest::at(bus, path.clone(), name, self.boot_timeout).await;
        let guest = guest.map_err(|failure| not_started(not_run(failure)))?;
        let result = guest.command(&self.command, &[], interrupts).await;
        drop(guard);
        result.map_err(|failure| NoExit { failure, ran: true })
    }
}

/// Removes the VM and its disk.
async fn remove(bus: &Bus, path: &OwnedObjectPath, interrupts: &mut Interrupts) -> Result<Removal, Failure> {
    let what = "remove the VM".to_owned();
    let removed = async {
        let options = Options::from([("force", true.into()), ("remove-workspaces", true.into())]);
        let job = bus.ask(&what, vm::at(bus, path, &what).await?.remove(options)).await?;
        let job = Job { what: what.clone(), title: "Removing the VM".to_owned(), path: job };
        job.wait(bus, interrupts).await
    };
    match removed.await {
        Ok(_) => Ok(Removal::Done),
        // It has removed itself, or is about to.
        Err(failure) if failure.kind() == Some(ErrorKind::NotFound) => Ok(Removal::Done),
        Err(failure) if failure.kind() == Some(ErrorKind::Busy) => Ok(Removal::Underway),
        Err(failure) => Err(failure),
    }
}

/// A process that removes the VM should this one be killed. It is ended with its handle.
struct Guarded(Child);

fn guard(id: &str) -> Result<Guarded, Failure> {
    let start = || -> std::io::Result<Child> {
        let mut guard = Command::new(std::env::current_exe()?);
        guard.args(["guard", id]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    start().map(Guarded).map_err(|error| {
        Failure::new("cannot start the process that would clean up").because(output::sentence(&error.to_string()))
    })
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It waits for this process and holds nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guard {
    pub(crate) async fn run(&self) -> Result<Exit, Failure> {
        // What ends the terminal's programs is not to end this one before its work is done.
        let _ = nix::unistd::setsid();
        let _interrupts = Interrupts::listen()?;
        // Whatever the error: nobody writes to it, so it is the end of the other side.
        let _ = std::io::stdin().lock().read(&mut [0]);
        let bus = Bus::connect().await?;
        let what = format!("remove VM {}", self.vm);
        let path = match vm::find(&bus, &self.vm, &what).await {
            Err(failure) if failure.kind() == Some(ErrorKind::NotFound) => return Ok(Exit::OK),
            other => other?,
        };
        remove(&bus, &path, &mut Interrupts::listen()?).await?;
        Ok(Exit::OK)
    }
}
