//! `nexusctl ws`.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use nexus_dbus::client::{Options, WorkspaceProperties, WorkspaceProxy};
use nexus_model::Timestamp;
use serde_json::{Value, json};

use crate::{
    bus::{Bus, Objects},
    confirm::ConfirmArgs,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    job::Job,
    output::{self, Fields, Format, FormatArgs, ListArgs, Table, amount},
    several::{Several, listed},
};

/// Workspaces: the disks of VMs, each a copy-on-write copy of an image
#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Make a workspace from an image
    Create(Create),
    /// List workspaces
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything about a workspace
    Inspect(Inspect),
    /// Delete workspaces that no VM has, with all that is in them
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The workspace's name [default: one that Nexus makes up]
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// The image to make it from
    #[arg(long, value_name = "IMAGE")]
    base: String,
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

impl WorkspaceCommand {
    /// Asks about what destroys. Before anything else, so that a refusal needs no daemon.
    pub(crate) fn confirm(&self) -> Result<(), Failure> {
        match self {
            Self::Delete(args) => {
                args.confirm.confirm(&format!("delete {} with all that is in it", listed("workspace", &args.names)))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => create(bus, &args).await,
            Self::List(args) => list(bus, &args).await,
            Self::Inspect(args) => inspect(bus, &args).await,
            Self::Delete(args) => delete(bus, &args).await,
        }
    }
}

async fn create(bus: &Bus, args: &Create) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let what = match args.name.as_str() {
        "" => "create a workspace".to_owned(),
        name => format!("create workspace {name}"),
    };
    let manager = bus.manager().await?;
    let options = Options::from([("base", args.base.as_str().into())]);
    let path = bus.ask(&what, manager.create_workspace(&args.name, options)).await?;
    let job = Job { what: what.clone(), title: "Making the workspace".to_owned(), path };
    let result = job.wait(bus, &mut interrupts).await?;
    let name = match result.object("workspace") {
        Some(path) if args.name.is_empty() => bus.read::<WorkspaceProperties>(&what, &path).await?.name,
        _ => args.name.clone(),
    };
    if args.quiet {
        output::line(&name)?;
    } else {
        output::done(format!("Workspace {name} is there."), &format!("nexusctl vm create NAME --workspace {name}"))?;
    }
    Ok(Exit::OK)
}

async fn list(bus: &Bus, args: &ListArgs) -> Result<Exit, Failure> {
    let objects = bus.objects("list workspaces").await?;
    let workspaces = objects.workspaces();
    if args.quiet {
        output::names(workspaces.iter().map(|workspace| workspace.name.as_str()))?;
        return Ok(Exit::OK);
    }
    match args.format.output {
        Format::Json => output::json(&workspaces.iter().map(|workspace| as_json(workspace, &objects)).collect())?,
        Format::Table if workspaces.is_empty() => {
            output::line("No workspaces yet. Make one: nexusctl ws create NAME --base IMAGE")?;
        }
        Format::Table => output::line(table(&workspaces, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

async fn inspect(bus: &Bus, args: &Inspect) -> Result<Exit, Failure> {
    let what = format!("inspect workspace {}", args.name);
    let manager = bus.manager().await?;
    let path = bus.ask(&what, manager.get_workspace(&args.name)).await?;
    let proxy = bus.ask(&what, WorkspaceProxy::builder(bus.connection()).path(path.clone()).build()).await?;
    let objects = bus.objects(&what).await?;
    let workspace = objects.all.get(&path).and_then(|object| object.workspace.as_ref());
    let workspace = workspace.ok_or_else(|| Failure::new(format!("cannot {what}")).because("It is gone by now."))?;
    // What has no disk takes nothing.
    let usage = match workspace.failure_reason.as_str() {
        "" => bus.ask(&what, proxy.get_usage()).await?,
        _ => HashMap::new(),
    };
    match args.format.output {
        Format::Json => {
            let mut value = as_json(workspace, &objects);
            for (key, bytes) in usage {
                value[key.replace('-', "_")] = bytes.into();
            }
            output::json(&value)?;
        }
        Format::Table => output::line(fields(workspace, &usage, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

async fn delete(bus: &Bus, args: &Delete) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let manager = bus.manager().await?;
    let mut several = Several::default();
    for name in &args.names {
        let deleted = async {
            let what = format!("delete workspace {name}");
            let path = bus.ask(&what, manager.get_workspace(name)).await?;
            let workspace = bus.ask(&what, WorkspaceProxy::builder(bus.connection()).path(path).build()).await?;
            let path = bus.ask(&what, workspace.remove(Options::new())).await?;
            Job { what, title: format!("Deleting {name}"), path }.wait(bus, &mut interrupts).await?;
            output::line(format!("Workspace {name} is deleted."))?;
            Ok(())
        };
        several.note(deleted.await)?;
    }
    several.end()
}

fn table(workspaces: &[&WorkspaceProperties], objects: &Objects) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "BASE", "VM", "SIZE", "CREATED"]).right(&[4]);
    for workspace in workspaces {
        table.row([
            workspace.name.clone(),
            workspace.state.clone(),
            objects.name(&workspace.base).unwrap_or_default(),
            objects.name(&workspace.vm).unwrap_or_default(),
            amount::size(workspace.size_bytes),
            amount::ago(Timestamp(workspace.created_at), objects.now),
        ]);
    }
    table
}

fn fields(workspace: &WorkspaceProperties, usage: &HashMap<String, u64>, objects: &Objects) -> Fields {
    let used = |key: &str| usage.get(key).copied().map(amount::size).unwrap_or_default();
    Fields::default()
        .field("Name", &workspace.name)
        .field("Id", &workspace.id)
        .field("State", &workspace.state)
        .field("Why", &workspace.failure_reason)
        .field("Base", objects.name(&workspace.base).unwrap_or_default())
        .field("VM", objects.name(&workspace.vm).unwrap_or_default())
        .field("Size", amount::size(workspace.size_bytes))
        .field("On disk", used("allocated-bytes"))
        .field("Its own", used("exclusive-bytes"))
        .field("Backend", &workspace.backend)
        .field("Folder", &workspace.path)
        .field("Created", amount::when(Timestamp(workspace.created_at), objects.now))
        .field("Attached", amount::when(Timestamp(workspace.attached_at), objects.now))
        .field("Detached", amount::when(Timestamp(workspace.detached_at), objects.now))
}

fn as_json(workspace: &WorkspaceProperties, objects: &Objects) -> Value {
    json!({
        "name": workspace.name,
        "id": workspace.id,
        "state": workspace.state,
        "failure_reason": workspace.failure_reason,
        "backend": workspace.backend,
        "path": workspace.path,
        "size_bytes": workspace.size_bytes,
        "read_only": workspace.read_only,
        "root_device": workspace.root_device,
        "base": objects.name(&workspace.base),
        "vm": objects.name(&workspace.vm),
        "created_at_usec": workspace.created_at,
        "attached_at_usec": workspace.attached_at,
        "detached_at_usec": workspace.detached_at,
    })
}
