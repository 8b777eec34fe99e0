//! What a call or an event is about, by the name that it has everywhere.

use std::fmt;

use nexus_model::{Id, Name};
use nexus_store::VmOf;

use crate::{
    Place,
    snapshot::{Board, JobId, ObjectRef},
};

/// What a call or an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `vm/web`, `workspace/disk`, `image/alpine`, `asset/kernel-6.1`.
    Object(ObjectRef),
    /// `job/3`.
    Job(JobId),
    /// The actor at a place: the thing that it stands for, or `supervisor/vms/web`.
    Actor(String),
    /// `daemon`: Nexus itself, or more than one thing.
    Daemon,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Job(job) => write!(f, "job/{job}"),
            Self::Daemon => f.write_str("daemon"),
            Self::Actor(place) => match Place::from(place.as_str()) {
                Place::Machine(vm) => write!(f, "vm/{vm}"),
                Place::Connection(vm, number) => write!(f, "vm/{vm}/connection/{number}"),
                Place::Workspace(name) => write!(f, "workspace/{name}"),
                Place::Root
                | Place::Vms
                | Place::Vm(_)
                | Place::Connections(_)
                | Place::Workspaces
                | Place::Other(_) => {
                    write!(f, "supervisor/{}", place.split_once('/').map_or(place.as_str(), |(_, below)| below))
                }
            },
        }
    }
}

impl Subject {
    /// How it is now; empty when it is not there, or has no state.
    pub(crate) fn state(&self, board: &Board) -> String {
        let state = match self {
            Self::Object(ObjectRef::Vm(name)) => board.vms().get(name).map(|vm| vm.lifecycle.state().to_string()),
            Self::Object(ObjectRef::Workspace(name)) => board.workspaces().get(name).map(|disk| disk.state.to_string()),
            // Only those that are ready are shown.
            Self::Object(ObjectRef::Image(name)) => board.images().get(name).map(|_| "ready".to_owned()),
            Self::Object(ObjectRef::Asset(name)) => board.assets().get(name).map(|_| "ready".to_owned()),
            Self::Job(job) => board.jobs().get(job).map(|job| job.state.to_string()),
            Self::Actor(place) => board.actors().get(place).map(|actor| actor.health.to_string()),
            Self::Daemon => None,
        };
        state.unwrap_or_default()
    }

    /// The VM that it is, belongs to, or works on.
    pub(crate) fn vm(&self, board: &Board) -> Option<VmOf> {
        let name = match self {
            Self::Object(ObjectRef::Vm(name)) => name.clone(),
            Self::Job(job) => board.jobs().get(job)?.objects.iter().find_map(|object| match object {
                ObjectRef::Vm(name) => Some(name.clone()),
                _ => None,
            })?,
            Self::Actor(place) => match Place::from(place.as_str()) {
                Place::Vm(name) | Place::Machine(name) | Place::Connections(name) | Place::Connection(name, _) => name,
                _ => return None,
            },
            Self::Object(_) | Self::Daemon => return None,
        };
        Some(VmOf { id: id_of(board, &name), name })
    }
}

fn id_of(board: &Board, name: &Name) -> Option<Id> {
    board.vms().get(name).map(|vm| vm.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_the_thing_that_it_stands_for() {
        for (place, text) in [
            ("root", "supervisor/root"),
            ("root/store", "supervisor/store"),
            ("root/vms/web", "supervisor/vms/web"),
            ("root/vms/web-1/machine", "vm/web-1"),
            ("root/vms/web-1/connections", "supervisor/vms/web-1/connections"),
            ("root/vms/web-1/connections/connection-1", "vm/web-1/connection/1"),
            ("root/workspaces/disk", "workspace/disk"),
        ] {
            assert_eq!(Subject::Actor(place.to_owned()).to_string(), text);
        }
    }
}
