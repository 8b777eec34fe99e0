//! `nexusctl tree`.

use std::collections::HashMap;

use clap::Args;
use nexus_dbus::client::{Interfaces, SupervisedProperties};
use nexus_model::Timestamp;
use serde_json::{Value, json};
use zbus::OwnedObjectPath;

use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    objects::decode,
    output::{self, Format, FormatArgs, amount, clean, style},
};

/// Draw the supervision tree: what runs, how it is, and why
#[derive(Debug, Args)]
pub(crate) struct Tree {
    #[command(flatten)]
    format: FormatArgs,
}

impl Tree {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let objects = bus.objects("draw the tree").await?;
        let roots = roots(&objects);
        match self.format.output {
            Format::Json => output::json(&roots.iter().map(as_json).collect())?,
            Format::Table => output::line(draw(&roots))?,
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
    if object.connection.is_some() {
        return format!("connection {last}");
    }
    // A supervisor's element of the path holds its whole place in the tree.
    let place = decode(last);
    place.rsplit('/').next().unwrap_or_default().to_owned()
}

fn about(object: &Interfaces) -> String {
    if let Some(vm) = &object.vm {
        let mut words = vec![vm.state.clone()];
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
        return format!("{}, {} on port {}", connection.state, connection.kind, connection.port);
    }
    if let Some(workspace) = &object.workspace {
        return format!("{}, {}", workspace.state, amount::size(workspace.size_bytes));
    }
    String::new()
}

impl Node<'_> {
    /// What is wrong with it, or was.
    fn trouble(&self) -> Vec<String> {
        let actor = self.actor;
        let mut words = Vec::new();
        for (count, one, several) in
            [(actor.failure_count, "failure", "failures"), (actor.fault_count, "fault", "faults")]
        {
            match count {
                0 => {}
                1 => words.push(format!("1 {one}")),
                count => words.push(format!("{count} {several}")),
            }
        }
        if actor.last_fault_at != 0 {
            let when = amount::ago(Timestamp(actor.last_fault_at), self.now);
            words.push(format!("last {when}: {}", actor.last_fault_reason));
        }
        if actor.next_restart_at != 0 {
            words.push(format!("tried again {}", amount::ahead(Timestamp(actor.next_restart_at), self.now)));
        }
        words
    }

    /// Health, then what else there is to say.
    fn text(&self) -> String {
        let actor = self.actor;
        let mut words = vec![style::paint(style::of(&actor.health), &clean(&actor.health))];
        if actor.generation > 1 {
            words.push(format!("generation {}", actor.generation));
        }
        if !self.about.is_empty() {
            words.push(clean(&self.about));
        } else if !self.strategy.is_empty() {
            words.push(style::paint(style::FAINT, &clean(self.strategy)));
        }
        words.extend(self.trouble().iter().map(|word| clean(word)));
        words.join(", ")
    }
}

/// The tree, a line for each actor.
fn draw(roots: &[Node<'_>]) -> String {
    let mut lines = Vec::new();
    for root in roots {
        lines.push((root.name.clone(), root.text()));
        branches(&root.children, "", &mut lines);
    }
    let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> = lines.iter().map(|(left, right)| format!("{left:width$}   {right}")).collect();
    lines.join("\n")
}

fn branches(children: &[Node<'_>], indent: &str, lines: &mut Vec<(String, String)>) {
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push((format!("{indent}{branch}{}", clean(&child.name)), child.text()));
        branches(&child.children, &format!("{indent}{below}"), lines);
    }
}

fn as_json(node: &Node<'_>) -> Value {
    let actor = node.actor;
    json!({
        "name": node.name,
        "path": node.path,
        "strategy": if node.strategy.is_empty() { Value::Null } else { json!(node.strategy) },
        "about": node.about,
        "health": actor.health,
        "generation": actor.generation,
        "restart_count": actor.restart_count,
        "failure_count": actor.failure_count,
        "fault_count": actor.fault_count,
        "last_fault_at_usec": actor.last_fault_at,
        "last_fault_reason": actor.last_fault_reason,
        "next_restart_at_usec": actor.next_restart_at,
        "started_at_usec": actor.started_at,
        "children": node.children.iter().map(as_json).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(actors: &[(&'static str, &'static str, &str)]) -> Objects {
        let none = |supervisor: &str, health: &str| SupervisedProperties {
            health: health.to_owned(),
            generation: 1,
            restart_count: 0,
            failure_count: 0,
            fault_count: 0,
            intensity: 3,
            window_usec: 60_000_000,
            last_fault_at: 0,
            last_fault_reason: String::new(),
            next_restart_at: 0,
            started_at: 1,
            supervisor: supervisor.to_owned().try_into().unwrap(),
        };
        let object = |supervised| Interfaces {
            vm: None,
            guest: None,
            connection: None,
            workspace: None,
            image: None,
            asset: None,
            job: None,
            supervised: Some(supervised),
            supervisor: None,
        };
        let mut all = HashMap::new();
        for (path, supervisor, health) in actors {
            all.insert((*path).to_owned().try_into().unwrap(), object(none(supervisor, health)));
        }
        Objects { all, now: Timestamp(100_000_000) }
    }

    #[test]
    fn draws_branches() {
        let mut objects = objects(&[
            ("/s/root", "/", "degraded"),
            ("/s/store", "/s/root", "ok"),
            ("/s/vms", "/s/root", "degraded"),
            ("/s/vms_2fweb", "/s/vms", "restarting"),
            ("/s/vms_2fweb_2d1", "/s/vms", "ok"),
        ]);
        let path = OwnedObjectPath::try_from("/s/vms_2fweb".to_owned()).unwrap();
        let sick = objects.all.get_mut(&path).unwrap().supervised.as_mut().unwrap();
        sick.generation = 3;
        sick.fault_count = 2;
        sick.last_fault_at = 40_000_000;
        sick.last_fault_reason = "it panicked:\n\x1b[1mboom".to_owned();
        sick.next_restart_at = 102_000_000;
        let text = anstream::adapter::strip_str(&draw(&roots(&objects))).to_string();
        assert_eq!(
            text,
            "\
root          degraded
├─ store      ok
└─ vms        degraded
   ├─ web     restarting, generation 3, 2 faults, last 1 minute ago: it panicked: \u{fffd}[1mboom, tried again in 2.0 s
   └─ web-1   ok"
        );
        let value = as_json(&roots(&objects)[0]);
        assert_eq!(value["children"][1]["children"][0]["fault_count"], 2);
    }
}
