//! `nexusctl orphans` and `nexusctl prune`.

use clap::Args;
use nexus_dbus::client::Options;
use nexus_model::ResourceKind;
use serde_json::{Value, json};

use crate::{
    bus::Bus,
    confirm::ConfirmArgs,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    job::Job,
    output::{self, Format, FormatArgs, Table, amount},
};

/// Show what is there under Nexus' names and nothing owns
///
/// What Nexus surely made is removed after a grace (reaper.grace-sec in nexus.yaml), unless it runs or holds data. What
/// might be somebody else's is only shown.
#[derive(Debug, Args)]
pub(crate) struct Orphans {
    #[command(flatten)]
    format: FormatArgs,
}

/// Remove orphans at once
///
/// Without a KIND all go that neither run nor hold data. What belongs to something that runs goes only with that. Shows what
/// would go, and asks.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// unit and process, which may run; runtime, console, asset or draft; workspace and image, which hold data
    #[arg(value_name = "KIND")]
    kinds: Vec<ResourceKind>,
    /// Only show what would go
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Orphans {
    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        let manager = bus.manager().await?;
        let orphans = bus.ask("list orphans", manager.list_orphans()).await?;
        let as_json =
            |(kind, name, fate): &(String, String, String)| json!({ "kind": kind, "name": name, "fate": fate });
        match self.format.output {
            Format::Json => output::json(&orphans.iter().map(as_json).collect())?,
            Format::Table if orphans.is_empty() => {
                output::line("No orphans: everything under Nexus' names has an owner.")?;
            }
            Format::Table => {
                let mut table = Table::new(&["KIND", "NAME", "FATE"]);
                for (kind, name, fate) in &orphans {
                    table.row([kind, name, fate]);
                }
                output::line(table.to_string())?;
            }
        }
        Ok(Exit::OK)
    }
}

const WHAT: &str = "remove orphans";

impl Prune {
    /// Refuses what could not be confirmed, before anything is asked of the daemon.
    pub(crate) fn can_confirm(&self) -> Result<(), Failure> {
        if self.dry_run { Ok(()) } else { self.confirm.can_confirm(WHAT) }
    }

    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        let mut interrupts = Interrupts::listen()?;
        if !self.confirm.yes {
            let would = self.prune(bus, &mut interrupts, true).await?;
            if self.dry_run || would.0.is_empty() {
                would.show(self.format.output, true)?;
                return Ok(Exit::OK);
            }
            output::note(would.table().to_string());
            self.confirm.confirm(&format!("remove {}", would.sum()))?;
        }
        self.prune(bus, &mut interrupts, false).await?.show(self.format.output, false)?;
        Ok(Exit::OK)
    }

    async fn prune(&self, bus: &Bus, interrupts: &mut Interrupts, dry_run: bool) -> Result<Pruned, Failure> {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let manager = bus.manager().await?;
        let options = Options::from([("dry-run", dry_run.into())]);
        let path = bus.ask(WHAT, manager.prune(&kinds, options)).await?;
        let title = if dry_run { "Looking for orphans" } else { "Removing orphans" };
        let job = Job { what: WHAT.to_owned(), title: title.to_owned(), path };
        let result = job.wait(bus, interrupts).await?;
        Ok(Pruned(result.value("removed").unwrap_or_default()))
    }
}

/// Kind, name and bytes on the disk of each that was removed, or would be.
struct Pruned(Vec<(String, String, u64)>);

impl Pruned {
    fn show(&self, format: Format, dry_run: bool) -> Result<(), Failure> {
        match format {
            Format::Json => output::json(&self.as_json(dry_run))?,
            Format::Table if self.0.is_empty() => output::line("Nothing to remove.")?,
            Format::Table if dry_run => output::line(format!("{}\nWould remove {}.", self.table(), self.sum()))?,
            Format::Table => output::line(format!("{}\nRemoved {}.", self.table(), self.sum()))?,
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["KIND", "NAME", "SIZE"]).right(&[2]);
        for (kind, name, bytes) in &self.0 {
            table.row([kind, name, &amount::size(*bytes)]);
        }
        table
    }

    /// `2 orphans, 4 KiB`.
    fn sum(&self) -> String {
        let count = if self.0.len() == 1 { "1 orphan".to_owned() } else { format!("{} orphans", self.0.len()) };
        format!("{count}, {}", amount::size(self.bytes()))
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, _, bytes)| bytes).sum()
    }

    fn as_json(&self, dry_run: bool) -> Value {
        let row = |(kind, name, bytes): &(String, String, u64)| json!({ "kind": kind, "name": name, "bytes": bytes });
        json!({
            "dry_run": dry_run,
            "removed": self.0.iter().map(row).collect::<Value>(),
            "bytes": self.bytes(),
        })
    }
}
