//! `nexusctl tree`.

mod draw;
mod watch;

use std::collections::HashMap;

use clap::Args;
use nexus_dbus::client::{Interfaces, SupervisedProperties};
use nexus_model::Timestamp;
use zbus::OwnedObjectPath;

use self::draw::{Times, as_json, draw};
use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    objects::decode,
    output::{self, Format, FormatArgs, amount},
};

/// Draw the supervision tree: what runs, how it is, and why
#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// Draw it again whenever it changes, until Ctrl-C; with json, one document a line
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    format: FormatArgs,
}

impl Tree {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        if self.watch {
            return output::while_read(Box::pin(watch::run(bus, self.format.output))).await;
        }
        let objects = bus.objects("draw the tree").await?;
        let roots = roots(&objects);
        match self.format.output {
            Format::Json => output::json(&as_json(&roots))?,
            Format::Table => output::line(draw(&roots, Times::FromNow))?,
        }
        Ok(Exit::OK)
    }
}

/// An actor and what it supervises.
struct Node<'a> {
    path: &'a str,
    name: String,
    actor: &'a SupervisedProperties,
    /// Empty unless it is a supervisor.
    strategy: &'a str,
    /// What it stands for, in a few words.
    about: String,
    now: Timestamp,
    children: Vec<Self>,
}

/// Which actors each supervisor has.
type Below<'a> = HashMap<&'a str, Vec<&'a OwnedObjectPath>>;

/// The actors that nobody supervises: one, unless the tree changes at this moment.
fn roots(objects: &Objects) -> Vec<Node<'_>> {
    let mut below = Below::new();
    for (path, object) in &objects.all {
        if let Some(actor) = &object.supervised {
            below.entry(actor.supervisor.as_str()).or_default().push(path);
        }
    }
    // A supervisor names its children in the order of their start.
    let supervisors = objects.all.values().filter_map(|object| object.supervisor.as_ref());
    let children = supervisors.flat_map(|supervisor| supervisor.children.iter().enumerate());
    let order: HashMap<&str, usize> = children.map(|(index, path)| (path.as_str(), index)).collect();
    for paths in below.values_mut() {
        paths.sort_by_key(|path| (order.get(path.as_str()).copied().unwrap_or(usize::MAX), path.as_str()));
    }
    let tops = below.get("/").into_iter().flatten();
    tops.filter_map(|path| node(path, objects, &below)).collect()
}

fn node<'a>(path: &'a OwnedObjectPath, objects: &'a Objects, below: &Below<'a>) -> Option<Node<'a>> {
    let object = objects.all.get(path)?;
    let children = below.get(path.as_str()).into_iter().flatten();
    Some(Node {
        path: path.as_str(),
        name: name(path, object),
        actor: object.supervised.as_ref()?,
        strategy: object.supervisor.as_ref().map(|supervisor| supervisor.strategy.as_str()).unwrap_or_default(),
        about: about(object),
        now: objects.now,
        children: children.filter_map(|child| node(child, objects, below)).collect(),
    })
}

/// What an actor is called below its supervisor.
fn name(path: &OwnedObjectPath, object: &Interfaces) -> String {
    if object.vm.is_some() {
        return "machine".to_owned();
    }
    let last = path.as_str().rsplit('/').next().unwrap_or_default();
    // Its actor may be there a moment before or after it.
    if path.as_str().contains("/connection/") {
        return format!("connection {last}");
    }
    // A supervisor's element of the path holds its whole place in the tree.
    let place = decode(last);
    place.rsplit('/').next().unwrap_or_default().to_owned()
}

fn about(object: &Interfaces) -> String {
    if let Some(vm) = &object.vm {
        let mut words = vec![vm.state.clone()];
        if matches!(vm.state.as_str(), "crashed" | "failed") {
            words.push(if vm.exit_reason.is_empty() {
                vm.state_reason.replace('-', " ")
            } else {
                vm.exit_reason.clone()
            });
        }
        if vm.guest_ready {
            words.push("guest ready".to_owned());
        }
        if !vm.vmm.is_empty() {
            words.push(crate::vm::vmm(vm));
        }
        if vm.leader != 0 {
            words.push(format!("pid {}", vm.leader));
        }
        return words.join(", ");
    }
    if let Some(connection) = &object.connection {
        let words = format!("{}, {} on port {}", connection.state, connection.kind, connection.port);
        let why = &connection.failure_reason;
        return if why.is_empty() { words } else { format!("{words}, {why}") };
    }
    if let Some(workspace) = &object.workspace {
        let words = format!("{}, {}", workspace.state, amount::size(workspace.size_bytes));
        let why = &workspace.failure_reason;
        return if why.is_empty() { words } else { format!("{words}, {why}") };
    }
    String::new()
}
