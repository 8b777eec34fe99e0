//! A list that goes on, also through a restart of the daemon.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use futures_util::StreamExt;
use nexus_dbus::{Error, client::Options};
use nexus_model::{ErrorKind, Timestamp};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use zbus::MessageStream;

use super::{List, Look, Wanted, row, told::Told, value};
use crate::{
    bus::{Bus, DEADLINE, is_away, owner_changes},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{self, Format, amount},
};

/// Before a daemon is asked again that is there and does not give the list yet, or not any more.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows what is there and what comes, until somebody interrupts.
pub(super) async fn run(bus: &Bus, list: List, wanted: &Wanted, look: Look) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let begun = amount::now();
    let mut lines = bus.ask(list.what(), list.open(&bus.manager().await?, wanted.options())).await?;
    let mut teller = Teller { format: wanted.format.output, look, told: Told::default() };
    loop {
        let (done, end) = oneshot::channel();
        let mut telling = teller;
        // A thread of its own: who was to read its output may have stopped, and then it could not be interrupted.
        thread::Builder::new().spawn(move || {
            let result = telling.tell(BufReader::new(File::from(OwnedFd::from(lines))));
            done.send(result.map(|()| telling))
        })?;
        teller = tokio::select! {
            // It does not go without a word unless it panics.
            end = end => end.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?,
            number = interrupts.next() => return Ok(Exit::signal(number)),
        };
        output::note("The daemon went away; VMs run on without it. Waiting for it to come back.");
        lines = tokio::select! {
            lines = again(bus, list, wanted, begun, &teller.told) => lines?,
            number = interrupts.next() => return Ok(Exit::signal(number)),
        };
    }
}

/// Opens the list of the next daemon. Starts none.
async fn again(
    bus: &Bus,
    list: List,
    wanted: &Wanted,
    begun: Timestamp,
    told: &Told,
) -> Result<zbus::OwnedFd, Failure> {
    let mut owners = bus
        .ask(list.what(), async { MessageStream::for_match_rule(owner_changes()?, bus.connection(), None).await })
        .await?;
    loop {
        let daemon = bus.daemon().await;
        if let Some(daemon) = &daemon {
            let manager = bus.manager_of(daemon).await?;
            match timeout(DEADLINE, list.open(&manager, wanted.rest(begun, told))).await {
                Ok(Ok(lines)) => return Ok(lines),
                Ok(Err(error)) if !is_passing(&error) => return Err(bus.explain(list.what(), &error).await),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        let changed = tokio::select! {
            changed = owners.next() => changed.is_some(),
            () = sleep(PAUSE), if daemon.is_some() => true,
        };
        if !changed {
            return Err(Failure::new(format!("cannot {} any longer", list.what()))
                .because("The connection to the session bus is gone."));
        }
    }
}

/// Whether a daemon that says so may give the list a moment later.
fn is_passing(error: &Error) -> bool {
    is_away(error) || matches!(error.kind(), Some(ErrorKind::StorageFailed | ErrorKind::Timeout | ErrorKind::Busy))
}

impl Wanted {
    /// What comes behind that of which there was told.
    fn rest(&self, begun: Timestamp, told: &Told) -> Options<'_> {
        let mut options = Options::from([("follow", true.into())]);
        if let Some(vm) = &self.vm {
            options.insert("vm", vm.as_str().into());
        }
        match told.after() {
            Some(after) => options.insert("after", after.into()),
            None => options.insert("since", begun.0.into()),
        };
        options
    }
}

/// Writes each row once.
struct Teller {
    format: Format,
    look: Look,
    told: Told,
}

impl Teller {
    /// Until the end of what there is to be read.
    fn tell(&mut self, mut lines: impl BufRead) -> io::Result<()> {
        let mut line = String::new();
        // What broke off is told again by the next daemon, as is a line without an end.
        while lines.read_line(&mut line).is_ok() && line.ends_with('\n') {
            let found = value(&line);
            if self.told.is_new(&found) {
                output::line(match self.format {
                    Format::Json => line.trim_end().to_owned(),
                    Format::Table => row(&(self.look.cells)(&found), self.look),
                })?;
            }
            line.clear();
        }
        Ok(())
    }
}
