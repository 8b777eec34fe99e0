//! `nexusctl kernel`: the assets that VMs boot.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nexus_dbus::client::{AssetProperties, AssetProxy, Options};
use nexus_model::Timestamp;
use serde_json::{Value, json};

use crate::{
    bus::{Bus, Objects},
    confirm::ConfirmArgs,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    job::Job,
    output::{self, Fields, Format, FormatArgs, ListArgs, Table, amount},
    path::absolute,
    several::{Several, listed},
};

/// Kernels that VMs boot, and their initial RAM disks
#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Import a kernel, and the initial RAM disk that goes with it
    Import(Import),
    /// List kernels and initial RAM disks
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything about a kernel or an initial RAM disk
    Inspect(Inspect),
    /// Take it where none of its kind is named
    Default(Name),
    /// Hash them again and compare with what was imported
    Verify(Names),
    /// Delete kernels and initial RAM disks that no VM uses
    #[command(visible_alias = "rm")]
    Delete(Delete),
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

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A name or an id
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// A name or an id
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl KernelCommand {
    /// Asks about what destroys. Before anything else, so that a refusal needs no daemon.
    pub(crate) fn confirm(&self) -> Result<(), Failure> {
        match self {
            Self::Delete(args) => args.confirm.confirm(&format!("delete {}", listed("kernel", &args.names.names))),
            _ => Ok(()),
        }
    }

    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        match self {
            Self::Import(args) => import(bus, &args).await,
            Self::List(args) => list(bus, &args).await,
            Self::Inspect(args) => inspect(bus, &args).await,
            Self::Default(args) => make_default(bus, &args.name).await,
            Self::Verify(args) => verify(bus, &args.names).await,
            Self::Delete(args) => delete(bus, &args.names.names).await,
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

async fn inspect(bus: &Bus, args: &Inspect) -> Result<Exit, Failure> {
    let what = format!("inspect kernel {}", args.name);
    let manager = bus.manager().await?;
    let path = bus.ask(&what, manager.get_asset(&args.name)).await?;
    let objects = bus.objects(&what).await?;
    let asset = objects.all.get(&path).and_then(|object| object.asset.as_ref());
    let asset = asset.ok_or_else(|| Failure::new(format!("cannot {what}")).because("It is gone by now."))?;
    match args.format.output {
        Format::Json => output::json(&as_json(asset, &objects))?,
        Format::Table => output::line(fields(asset, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

async fn make_default(bus: &Bus, name: &str) -> Result<Exit, Failure> {
    let what = format!("make {name} the default");
    let asset = find(bus, name, &what).await?;
    bus.ask(&what, asset.make_default()).await?;
    output::line(format!("{name} is taken where none of its kind is named."))?;
    Ok(Exit::OK)
}

async fn verify(bus: &Bus, names: &[String]) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut several = Several::default();
    for name in names {
        let verified = async {
            let what = format!("verify {name}");
            let asset = find(bus, name, &what).await?;
            let path = bus.ask(&what, asset.verify(Options::new())).await?;
            Job { what, title: format!("Verifying {name}"), path }.wait(bus, &mut interrupts).await?;
            output::line(format!("{name} is as it was imported."))?;
            Ok(())
        };
        several.note(verified.await)?;
    }
    several.end()
}

async fn delete(bus: &Bus, names: &[String]) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut several = Several::default();
    for name in names {
        let deleted = async {
            let what = format!("delete {name}");
            let asset = find(bus, name, &what).await?;
            let path = bus.ask(&what, asset.remove(Options::new())).await?;
            Job { what, title: format!("Deleting {name}"), path }.wait(bus, &mut interrupts).await?;
            output::line(format!("{name} is deleted."))?;
            Ok(())
        };
        several.note(deleted.await)?;
    }
    several.end()
}

/// Calls the asset of this name or id.
async fn find(bus: &Bus, name: &str, what: &str) -> Result<AssetProxy<'static>, Failure> {
    let manager = bus.manager().await?;
    let path = bus.ask(what, manager.get_asset(name)).await?;
    bus.ask(what, AssetProxy::builder(bus.connection()).path(path).build()).await
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

fn fields(asset: &AssetProperties, objects: &Objects) -> Fields {
    Fields::default()
        .field("Name", &asset.name)
        .field("Id", &asset.id)
        .field("Kind", &asset.kind)
        .field("Version", &asset.version)
        .field("Architecture", &asset.architecture)
        .field("Size", amount::size(asset.size_bytes))
        .field("Digest", format!("sha256:{}", asset.digest))
        .field("Checked", &asset.verification)
        .field("Default", if asset.default { "yes" } else { "no" })
        .field("Made from", &asset.source)
        .field("File", &asset.path)
        .field("Used by", objects.names(&asset.used_by).join(", "))
        .field("Imported", amount::when(Timestamp(asset.created_at), objects.now))
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
