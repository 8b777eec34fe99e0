//! The tree as text and as JSON.

use nexus_model::Timestamp;
use serde_json::{Value, json};

use super::Node;
use crate::output::{amount, clean, style};

/// How instants are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    /// As seen from now: `in 2.0 s`. For what is looked at now.
    FromNow,
    /// By the clock. For what stays as it was written.
    Clock,
}

impl Times {
    fn past(self, at: u64, now: Timestamp) -> String {
        match self {
            Self::FromNow => amount::ago(Timestamp(at), now),
            Self::Clock => format!("at {}", amount::instant(Timestamp(at))),
        }
    }

    fn future(self, at: u64, now: Timestamp) -> String {
        match self {
            Self::FromNow if at <= now.0 => "now".to_owned(),
            Self::FromNow => amount::ahead(Timestamp(at), now),
            Self::Clock => format!("at {}", amount::instant(Timestamp(at))),
        }
    }
}

impl Node<'_> {
    /// What went wrong with it.
    fn trouble(&self, times: Times) -> Vec<String> {
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
            let when = times.past(actor.last_fault_at, self.now);
            words.push(format!("last {when}: {}", actor.last_fault_reason));
        }
        words
    }

    /// Health, then what else there is to say.
    fn text(&self, times: Times) -> String {
        let actor = self.actor;
        let mut words = vec![style::paint(style::of(&actor.health), &clean(&actor.health))];
        if actor.next_restart_at != 0 {
            words.push(format!("tried again {}", times.future(actor.next_restart_at, self.now)));
        }
        if actor.generation > 1 {
            words.push(format!("generation {}", actor.generation));
        }
        // A VM that has failed is as well as it is.
        let about = self.about.strip_prefix(actor.health.as_str()).unwrap_or(&self.about).trim_start_matches(", ");
        if !about.is_empty() {
            words.push(clean(about));
        } else if !self.strategy.is_empty() {
            words.push(style::paint(style::FAINT, &clean(self.strategy)));
        }
        words.extend(self.trouble(times).iter().map(|word| clean(word)));
        words.join(", ")
    }
}

/// The tree, a line for each actor.
pub(super) fn draw(roots: &[Node<'_>], times: Times) -> String {
    let mut lines = Vec::new();
    for root in roots {
        lines.push((root.name.clone(), root.text(times)));
        branches(&root.children, "", times, &mut lines);
    }
    let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> = lines.iter().map(|(left, right)| format!("{left:width$}   {right}")).collect();
    lines.join("\n")
}

fn branches(children: &[Node<'_>], indent: &str, times: Times, lines: &mut Vec<(String, String)>) {
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push((format!("{indent}{branch}{}", clean(&child.name)), child.text(times)));
        branches(&child.children, &format!("{indent}{below}"), times, lines);
    }
}

/// The tree with raw values.
pub(super) fn as_json(roots: &[Node<'_>]) -> Value {
    roots.iter().map(node_as_json).collect()
}

fn node_as_json(node: &Node<'_>) -> Value {
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
        "children": as_json(&node.children),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use nexus_dbus::client::{Interfaces, SupervisedProperties};
    use zbus::OwnedObjectPath;

    use super::*;
    use crate::{bus::Objects, tree::roots};

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
    fn what_has_failed_says_so_once() {
        let objects = objects(&[("/s/vms_2fweb", "/", "failed")]);
        let mut roots = roots(&objects);
        for (about, text) in [("failed, too many failures", "failed, too many failures"), ("failed", "failed")] {
            about.clone_into(&mut roots[0].about);
            let drawn = anstream::adapter::strip_str(&draw(&roots, Times::FromNow)).to_string();
            assert_eq!(drawn, format!("web   {text}"));
        }
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
        let text = anstream::adapter::strip_str(&draw(&roots(&objects), Times::FromNow)).to_string();
        assert_eq!(
            text,
            "\
root          degraded
├─ store      ok
└─ vms        degraded
   ├─ web     restarting, tried again in 2.0 s, generation 3, 2 faults, last 1 minute ago: it panicked: \u{fffd}[1mboom
   └─ web-1   ok"
        );
        let value = as_json(&roots(&objects));
        assert_eq!(value[0]["children"][1]["children"][0]["fault_count"], 2);
    }
}
