//! `nexusctl cp`: files between the host and a VM. They go straight between nexusctl and the guest's agent.

mod broken;
mod end;
mod give;
mod meter;
mod side;
mod take;

use std::{
    io::{self, IsTerminal},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use nexus_archive::IdleStream;
use nexus_dbus::client::{GuestProxy, Options};
use tokio::{task::JoinHandle, time::timeout};
use zbus::Variant;

use self::{broken::Broken, meter::Meter, side::Side};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output::{self, amount},
    progress::Progress,
};

/// A copy of which nothing moves for so long is over.
const IDLE: Duration = Duration::from_secs(60);

/// How often what is shown of a copy changes.
const TICK: Duration = Duration::from_millis(200);

/// How long a copy that is called off has to remove what it has begun.
const CLEANING: Duration = Duration::from_secs(30);

/// Copy files and folders between the host and a VM
///
/// One of the two is in a VM, `VM:/path`. Permissions, times, symbolic and hard links, pipes and holes of sparse files
/// are kept; what is copied belongs to root in the VM, and on the host to you, with no more permissions than your umask
/// leaves. It is there whole, or, when something fails or it is interrupted before, not at all: until everything has come
/// and its checksum is right it lies in a folder `.nexus-…` beside.
///
/// As with docker cp: into a folder that is there goes what is copied under its own name; otherwise it gets the last name of
/// the path, in a folder that is there. A folder with `/.` at its end is copied as what the path says in any case. A file
/// takes the place of one that is there. Otherwise than with docker, no folder is mixed with another one: where one of that
/// name is there, nothing is copied without --replace, which removes all that is in it.
///
/// However long it takes: only when nothing has moved for 60 s is it given up.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// A folder takes the place of one that is there, all of which is removed
    #[arg(long)]
    replace: bool,
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m")]
    boot_timeout: Duration,
    /// A path, or VM:PATH
    #[arg(value_name = "SRC")]
    source: String,
    /// A path, or VM:PATH, or - for an archive of tar on standard output, which is to be no terminal
    #[arg(value_name = "DST")]
    target: String,
}

impl Cp {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let what = format!("copy {} to {}", self.source, self.target);
        let title = format!("Copying {}", self.source);
        let mut interrupts = Interrupts::listen()?;
        let meter = Arc::new(Meter::default());
        let under_way = Arc::clone(&meter);
        // What the other side of a stream that is closed does with the rest it does by itself.
        let target = Side::parse(&self.target);
        let undone = match target {
            Side::Guest { .. } => "The guest removes what has come by then, unless that was all.",
            Side::Host(_) | Side::Pipe => "What has been copied by then was removed.",
        };
        let (stream, work) = match (Side::parse(&self.source), target) {
            (Side::Host(source), Side::Guest { vm, path }) => {
                let source = side::Source::find(&source).map_err(|why| failed(&what, why))?;
                let mut options = Options::new();
                if let Some(name) = source.name() {
                    let name = name.to_str().ok_or_else(|| failed(&what, "its name is not UTF-8"))?;
                    options.insert("name", Variant::from(name.to_owned()));
                }
                if self.replace {
                    options.insert("replace", Variant::from(true));
                }
                let stream = self.open(bus, &vm, &what, &mut interrupts, Way::In(&path, options)).await?;
                let giving = stream.try_clone().map_err(|error| failed(&what, error.to_string()))?;
                let work =
                    tokio::task::spawn_blocking(move || give::give(&giving, &source, &under_way).map_err(Broken::from));
                (stream, work)
            }
            (Side::Guest { vm, path }, Side::Host(target)) => {
                let target = side::target(&target, &path, self.replace).map_err(|why| failed(&what, why))?;
                let stream = self.open(bus, &vm, &what, &mut interrupts, Way::Out(&path)).await?;
                let taking = stream.try_clone().map_err(|error| failed(&what, error.to_string()))?;
                let work = tokio::task::spawn_blocking(move || take::take(taking, target, &under_way));
                (stream, work)
            }
            (Side::Guest { .. }, Side::Pipe) if io::stdout().is_terminal() => {
                return Err(usage("an archive of tar is nothing for a terminal: send it to a file or a program"));
            }
            (Side::Guest { vm, path }, Side::Pipe) => {
                let stream = self.open(bus, &vm, &what, &mut interrupts, Way::Out(&path)).await?;
                let taking = stream.try_clone().map_err(|error| failed(&what, error.to_string()))?;
                let work = tokio::task::spawn_blocking(move || take::pass_on(taking, &under_way));
                (stream, work)
            }
            (Side::Guest { .. }, Side::Guest { .. }) => return Err(usage("both are in a VM: copy to the host first")),
            (Side::Pipe, _) => return Err(usage("standard input can't be copied: it has no name")),
            (Side::Host(_), _) => return Err(usage("neither is in a VM: VM:PATH is a path in one")),
        };
        watch(&what, &title, undone, &stream, work, &meter, &mut interrupts).await
    }

    /// A stream for the copy, as soon as the guest answers.
    async fn open(
        &self,
        bus: &Bus,
        name: &str,
        what: &str,
        interrupts: &mut Interrupts,
        way: Way<'_>,
    ) -> Result<IdleStream, Failure> {
        let guest = Guest::find(bus, name, what, self.boot_timeout).await?;
        let stream = guest.ask(what, interrupts, async || way.open(&guest.proxy).await).await?;
        Ok(IdleStream::new(stream, IDLE))
    }
}

/// What the guest is asked for.
enum Way<'a> {
    In(&'a str, Options<'static>),
    Out(&'a str),
}

impl Way<'_> {
    async fn open(&self, guest: &GuestProxy<'_>) -> Result<OwnedFd, nexus_dbus::Error> {
        let stream = match self {
            Self::In(path, options) => guest.copy_in(path, options.clone()).await?,
            Self::Out(path) => guest.copy_out(path, Options::new()).await?,
        };
        Ok(stream.into())
    }
}

/// Shows how far a copy is until it ends. A signal ends it, and what it has begun is removed.
async fn watch(
    what: &str,
    title: &str,
    undone: &str,
    stream: &IdleStream,
    mut work: JoinHandle<Result<u64, Broken>>,
    meter: &Meter,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let progress = Progress::new(title);
    let begun = Instant::now();
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended.unwrap_or_else(|_| Err("nexusctl failed".into())),
            () = tokio::time::sleep(TICK) => progress.stage(&meter.describe(begun.elapsed())),
            number = interrupts.next() => {
                stream.close();
                match called_off(work, interrupts.next()).await {
                    Some(Ok(left_out)) => break Ok(left_out),
                    Some(Err(broken)) => {
                        let why = if broken.stays { output::sentence(&broken.why) } else { undone.to_owned() };
                        return Err(Failure::new("interrupted").because(why).exit(Exit::signal(number)).for_all());
                    }
                    None => return Err(Failure::silent(Exit::signal(number))),
                }
            }
        }
    };
    drop(progress);
    let left_out = ended.map_err(|broken| failed(what, broken.why))?;
    if left_out > 0 {
        let sockets =
            if left_out == 1 { "1 socket or device was" } else { &format!("{left_out} sockets or devices were") };
        output::warn(&format!("{sockets} not copied"));
    }
    Ok(Exit::OK)
}

/// Waits until nothing is left of a copy whose stream is closed, or for another signal. Where everything was in its place
/// already it was too late: what it says then.
async fn called_off(
    work: JoinHandle<Result<u64, Broken>>,
    again: impl Future<Output = u8>,
) -> Option<Result<u64, Broken>> {
    tokio::select! {
        ended = timeout(CLEANING, work) => ended.ok()?.ok(),
        _ = again => None,
    }
}

fn failed(what: &str, why: impl AsRef<str>) -> Failure {
    Failure::new(format!("cannot {what}")).because(output::sentence(why.as_ref()))
}

fn usage(what: &str) -> Failure {
    Failure::new(what).exit(Exit::USAGE)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_signal_that_comes_when_all_is_in_its_place_is_too_late() {
        let ends = |how: Result<u64, Broken>| tokio::spawn(async { how });
        assert_eq!(called_off(ends(Ok(2)), pending()).await, Some(Ok(2)));
        let broken = Err(Broken::from("the copy broke off"));
        assert_eq!(called_off(ends(broken.clone()), pending()).await, Some(broken));
        assert_eq!(called_off(tokio::spawn(pending()), async { 2 }).await, None);
    }
}
