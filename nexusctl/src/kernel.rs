//! `nexusctl kernel`: the assets that VMs boot.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nexus_dbus::client::{AssetProperties, Options};
use nexus_model::Timestamp;
use serde_json::{Value, json};

use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    job::Job,
    output::{self, Format, ListArgs, Table, amount},
    path::absolute,
};

/// Kernels that VMs boot, and their initial RAM disks
#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Import a kernel, and the initial RAM disk that goes with it
    Import(Import),
    /// List kernels and initial RAM disks
    #[command(visible_alias = "ls")]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A kernel: a bzImage or an ELF vmlinux
    path: PathBuf,
    /// The initial RAM disk that the kernel needs
    #[arg(long, value_name = "PATH")]
    initrd: Option<PathBuf>,
    /// The version of both [default: what the kernel says of itself]
    #[arg(long)]
    version: Option<String>,
    /// Take it where no kernel is named, as the first one is anyway
    #[arg(long)]
    default: bool,
    /// Only the kernel's name
    #[arg(short, long)]
    quiet: bool,
}

impl KernelCommand {
    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        match self {
            Self::Import(args) => import(bus, &args).await,
            Self::List(args) => list(bus, &args).await,
        }
    }
}

async fn import(bus: &Bus, args: &Import) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let kernel = import_one(bus, "kernel", &args.path, args.version.as_deref(), args.default, &mut interrupts).await?;
    let initrd = match &args.initrd {
        // One version: by that the engine finds the initrd of a kernel.
        Some(path) => {
            let version = Some(kernel.version.as_str());
            Some(import_one(bus, "initrd", path, version, args.default, &mut interrupts).await?)
        }
        None => None,
    };
    if args.quiet {
        output::line(&kernel.name)?;
        return Ok(Exit::OK);
    }
    let text = match initrd {
        Some(initrd) => format!("Kernel {} is there, and {} goes with it.", kernel.name, initrd.name),
        None => format!("Kernel {} is there.", kernel.name),
    };
    output::done(text, "nexusctl image import PATH NAME")?;
    Ok(Exit::OK)
}

async fn import_one(
    bus: &Bus,
    kind: &str,
    path: &Path,
    version: Option<&str>,
    default: bool,
    interrupts: &mut Interrupts,
) -> Result<AssetProperties, Failure> {
    let what = format!("import {kind} {}", path.display());
    let mut options = Options::new();
    if let Some(version) = version {
        options.insert("version", version.into());
    }
    if default {
        options.insert("default", true.into());
    }
    let manager = bus.manager().await?;
    let job = bus.ask(&what, manager.import_asset(kind, &absolute(path)?, options)).await?;
    let job = Job { what: what.clone(), title: format!("Importing the {kind}"), path: job };
    let result = job.wait(bus, interrupts).await?;
    let asset = result
        .object("asset")
        .ok_or_else(|| Failure::new(format!("cannot {what}")).because("The daemon does not say what it made."))?;
    bus.read(&what, &asset).await
}

async fn list(bus: &Bus, args: &ListArgs) -> Result<Exit, Failure> {
    let objects = bus.objects("list kernels").await?;
    let assets = objects.assets();
    if args.quiet {
        output::names(assets.iter().map(|asset| asset.name.as_str()))?;
        return Ok(Exit::OK);
    }
    match args.format.output {
        Format::Json => output::json(&assets.iter().map(|asset| as_json(asset, &objects)).collect())?,
        Format::Table if assets.is_empty() => {
            output::line("No kernels yet. Import one: nexusctl kernel import PATH")?;
        }
        Format::Table => output::line(table(&assets, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

fn table(assets: &[&AssetProperties], objects: &Objects) -> Table {
    let mut table = Table::new(&["NAME", "KIND", "SIZE", "DEFAULT", "CREATED"]).right(&[2]);
    for asset in assets {
        table.row([
            asset.name.clone(),
            asset.kind.clone(),
            amount::size(asset.size_bytes),
            if asset.default { "yes".to_owned() } else { String::new() },
            amount::ago(Timestamp(asset.created_at), objects.now),
        ]);
    }
    table
}

fn as_json(asset: &AssetProperties, objects: &Objects) -> Value {
    json!({
        "name": asset.name,
        "id": asset.id,
        "kind": asset.kind,
        "version": asset.version,
        "architecture": asset.architecture,
        "digest": asset.digest,
        "source": asset.source,
        "path": asset.path,
        "verification": asset.verification,
        "size_bytes": asset.size_bytes,
        "default": asset.default,
        "used_by": objects.names(&asset.used_by),
        "created_at_usec": asset.created_at,
    })
}
