//! `nexusctl image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nexus_dbus::client::{ImageProperties, ImageProxy, Options};
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

/// Master images that disks are made from
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Make an image of a raw ext4 file, or of a folder with a root file system
    Import(Import),
    /// List images
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything about an image
    Inspect(Inspect),
    /// Delete images that no disk was made from
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A raw ext4 file, or a folder with a root file system
    path: PathBuf,
    /// The image's name
    name: String,
    /// Size of the disk that is made of a folder [default: what it holds and some room]
    #[arg(long, value_name = "SIZE", value_parser = amount::parse_size)]
    size: Option<u64>,
    /// Only the name
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
pub(crate) struct Delete {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl ImageCommand {
    /// Asks about what destroys. Before anything else, so that a refusal needs no daemon.
    pub(crate) fn confirm(&self) -> Result<(), Failure> {
        match self {
            Self::Delete(args) => args.confirm.confirm(&format!("delete {}", listed("image", &args.names))),
            _ => Ok(()),
        }
    }

    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        match self {
            Self::Import(args) => import(bus, &args).await,
            Self::List(args) => list(bus, &args).await,
            Self::Inspect(args) => inspect(bus, &args).await,
            Self::Delete(args) => delete(bus, &args).await,
        }
    }
}

async fn import(bus: &Bus, args: &Import) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let name = &args.name;
    let what = format!("import image {name}");
    let path = absolute(&args.path)?;
    let mut options = Options::new();
    if let Some(size) = args.size {
        options.insert("size-bytes", size.into());
    }
    let manager = bus.manager().await?;
    let path = bus.ask(&what, manager.import_image(&path, name, options)).await?;
    let result = Job { what, title: format!("Importing {name}"), path }.wait(bus, &mut interrupts).await?;
    if let Some(warning) = result.text("warning") {
        output::warn(&warning);
    }
    if args.quiet {
        output::line(name)?;
    } else {
        output::done(format!("Image {name} is there."), &format!("nexusctl vm create NAME --image {name}"))?;
    }
    Ok(Exit::OK)
}

async fn list(bus: &Bus, args: &ListArgs) -> Result<Exit, Failure> {
    let objects = bus.objects("list images").await?;
    let images = objects.images();
    if args.quiet {
        output::names(images.iter().map(|image| image.name.as_str()))?;
        return Ok(Exit::OK);
    }
    match args.format.output {
        Format::Json => output::json(&images.iter().map(|image| as_json(image, &objects)).collect())?,
        Format::Table if images.is_empty() => {
            output::line("No images yet. Import one: nexusctl image import PATH NAME")?;
        }
        Format::Table => output::line(table(&images, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

async fn inspect(bus: &Bus, args: &Inspect) -> Result<Exit, Failure> {
    let what = format!("inspect image {}", args.name);
    let manager = bus.manager().await?;
    let path = bus.ask(&what, manager.get_image(&args.name)).await?;
    let objects = bus.objects(&what).await?;
    let image = objects.all.get(&path).and_then(|object| object.image.as_ref()).ok_or_else(|| gone(&what))?;
    match args.format.output {
        Format::Json => output::json(&as_json(image, &objects))?,
        Format::Table => output::line(fields(image, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

async fn delete(bus: &Bus, args: &Delete) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let manager = bus.manager().await?;
    let mut several = Several::default();
    for name in &args.names {
        let deleted = async {
            let what = format!("delete image {name}");
            let path = bus.ask(&what, manager.get_image(name)).await?;
            let image = bus.ask(&what, ImageProxy::builder(bus.connection()).path(path).build()).await?;
            let path = bus.ask(&what, image.remove(Options::new())).await?;
            Job { what, title: format!("Deleting {name}"), path }.wait(bus, &mut interrupts).await?;
            output::line(format!("Image {name} is deleted."))?;
            Ok(())
        };
        several.note(deleted.await)?;
    }
    several.end()
}

fn gone(what: &str) -> Failure {
    Failure::new(format!("cannot {what}")).because("It is gone by now.")
}

fn system(image: &ImageProperties) -> String {
    format!("{} {}", image.os_name, image.os_version).trim().to_owned()
}

fn table(images: &[&ImageProperties], objects: &Objects) -> Table {
    let mut table = Table::new(&["NAME", "SYSTEM", "SIZE", "WORKSPACES", "CREATED"]).right(&[2, 3]);
    for image in images {
        table.row([
            image.name.clone(),
            system(image),
            amount::size(image.size_bytes),
            image.used_by.len().to_string(),
            amount::ago(Timestamp(image.created_at), objects.now),
        ]);
    }
    table
}

fn fields(image: &ImageProperties, objects: &Objects) -> Fields {
    Fields::default()
        .field("Name", &image.name)
        .field("Id", &image.id)
        .field("System", system(image))
        .field("Size", amount::size(image.size_bytes))
        .field("Digest", format!("sha256:{}", image.digest))
        .field("Made from", &image.origin)
        .field("Folder", &image.path)
        .field("Workspaces", objects.names(&image.used_by).join(", "))
        .field("Created", amount::when(Timestamp(image.created_at), objects.now))
}

fn as_json(image: &ImageProperties, objects: &Objects) -> Value {
    json!({
        "name": image.name,
        "id": image.id,
        "digest": image.digest,
        "path": image.path,
        "size_bytes": image.size_bytes,
        "origin": image.origin,
        "os_name": image.os_name,
        "os_version": image.os_version,
        "used_by": objects.names(&image.used_by),
        "created_at_usec": image.created_at,
    })
}
