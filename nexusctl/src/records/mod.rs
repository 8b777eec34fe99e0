//! `nexusctl audit` and `nexusctl events`: long lists, the oldest first, that can be followed.

mod audit;
mod events;
mod follow;
mod told;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::OwnedFd,
    thread,
};

pub(crate) use audit::Audit;
pub(crate) use events::Events;
use nexus_dbus::client::{ManagerProxy, Options};
use nexus_model::{ErrorKind, Timestamp};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{self, Format, FormatArgs, Table, amount, clean, instant, style},
    vm,
};

/// So many are shown to whoever says neither how many nor since when.
const USUAL: u32 = 50;

/// Which list.
#[derive(Clone, Copy, Debug)]
enum List {
    Audit,
    Events,
}

impl List {
    /// What somebody wants who asks for it, for errors.
    const fn what(self) -> &'static str {
        match self {
            Self::Audit => "show who asked for what",
            Self::Events => "show what happened",
        }
    }

    async fn open(self, manager: &ManagerProxy<'_>, options: Options<'_>) -> Result<zbus::OwnedFd, nexus_dbus::Error> {
        match self {
            Self::Audit => manager.open_audit(options).await,
            Self::Events => manager.open_events(options).await,
        }
    }
}

/// What of a list is wanted.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Only of this VM, by its name or id; it may be gone
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
    /// From then on: 10m, 2h (ago), today, yesterday, 2026-11-21, "2026-11-21 09:30", 2026-11-21T09:30:00Z
    ///
    /// How long ago, or when: a date or a date and a time, which are local unless they end with Z or an offset from UTC.
    #[arg(long, value_name = "TIME", value_parser = instant::parse, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Until then
    #[arg(long, value_name = "TIME", value_parser = instant::parse, allow_hyphen_values = true, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Go on with what comes from now on, also through a restart of the daemon
    #[arg(short, long)]
    follow: bool,
    /// At most so many, the newest ones; 0 is all that are kept [default: 50, or all since a time]
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u32>,
    #[command(flatten)]
    format: FormatArgs,
}

impl Wanted {
    fn options(&self) -> Options<'_> {
        let mut options = Options::new();
        if let Some(vm) = &self.vm {
            options.insert("vm", vm.as_str().into());
        }
        if let Some(since) = self.since {
            options.insert("since", since.0.into());
        }
        if let Some(until) = self.until {
            options.insert("until", until.0.into());
        }
        if self.follow {
            options.insert("follow", true.into());
        }
        let usual = if self.since.is_some() || self.until.is_some() { 0 } else { USUAL };
        let limit = self.limit.unwrap_or(usual);
        if limit > 0 {
            options.insert("limit", limit.into());
        }
        options
    }

    /// Of what, for a sentence: ` of VM web since then`.
    fn of_what(&self) -> String {
        let vm = self.vm.as_ref().map(|vm| format!(" of VM {}", clean(vm))).unwrap_or_default();
        let time = if self.since.is_some() || self.until.is_some() { " at that time" } else { "" };
        format!("{vm}{time}")
    }
}

/// How one of the lists is shown to people.
#[derive(Clone, Copy)]
struct Look {
    /// Each column's title, and how wide it is where what follows is not known yet.
    columns: &'static [(&'static str, usize)],
    cells: fn(&Value) -> Vec<String>,
}

/// Shows a list until its end, or until somebody interrupts.
async fn show(bus: &Bus, list: List, wanted: &Wanted, look: Look, nothing: String) -> Result<Exit, Failure> {
    if wanted.follow {
        return output::while_read(follow::run(bus, list, wanted, look)).await;
    }
    let mut interrupts = Interrupts::listen()?;
    let lines = bus.ask(list.what(), list.open(&bus.manager().await?, wanted.options())).await?;
    let lines = BufReader::new(File::from(OwnedFd::from(lines)));
    let format = wanted.format.output;
    let (shown, end) = oneshot::channel();
    // A thread of its own: who was to read its output may have stopped, and then it could not be interrupted.
    thread::Builder::new().spawn(move || {
        shown.send(match format {
            Format::Json => print(lines).map(|()| false),
            Format::Table => print_table(lines, look, &nothing),
        })
    })?;
    let empty = tokio::select! {
        // It does not go without a word unless it panics.
        end = end => end.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?,
        number = interrupts.next() => return Ok(Exit::signal(number)),
    };
    if let Some(vm) = wanted.vm.as_ref().filter(|_| empty) {
        let found = vm::find(bus, vm, list.what()).await;
        if found.is_err_and(|failure| failure.kind() == Some(ErrorKind::NotFound)) {
            output::note(unknown(vm));
        }
    }
    Ok(Exit::OK)
}

/// What to say where nothing is told of a VM that is not there.
fn unknown(vm: &str) -> String {
    let list = style::paint(style::HINT, "nexusctl vm list");
    let vm = clean(vm);
    format!(
        "There is no VM {vm} now. One that was removed is known by its name or its id while what happened to it is kept.\n  \
         See what there is: {list}"
    )
}

/// As they come.
fn print(lines: impl BufRead) -> io::Result<()> {
    lines.lines().try_for_each(|line| output::line(line?))
}

/// A row whose columns are as wide as they usually are.
fn row(cells: &[String], look: Look) -> String {
    let padded = |(cell, (_, width)): (&String, &(&str, usize))| format!("{:width$}", clean(cell));
    let cells: Vec<String> = cells.iter().zip(look.columns).map(padded).collect();
    cells.join("   ").trim_end().to_owned()
}

/// Says whether there was nothing.
fn print_table(lines: impl BufRead, look: Look, nothing: &str) -> io::Result<bool> {
    let titles: Vec<&str> = look.columns.iter().map(|(title, _)| *title).collect();
    let mut table = Table::new(&titles);
    let mut empty = true;
    for line in lines.lines() {
        table.row((look.cells)(&value(&line?)));
        empty = false;
    }
    output::line(if empty { nothing.to_owned() } else { table.to_string() })?;
    Ok(empty)
}

/// A line that is no JSON is shown as one without values.
fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

/// A value of a row, as text.
fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// When it was.
fn at(row: &Value) -> String {
    amount::instant(Timestamp(row["at_usec"].as_u64().unwrap_or_default()))
}

/// From one state to another; what is not known is left out.
fn step(from: &str, to: &str) -> String {
    match (from, to) {
        (from, to) if from == to => from.to_owned(),
        ("", to) => to.to_owned(),
        (from, "") => format!("{from} →"),
        (from, to) => format!("{from} → {to}"),
    }
}
