//! Where actors are in the tree: each supervisor's name and its child's, with slashes between.

use std::fmt;

use nexus_model::Name;

pub(crate) const VMS: &str = "vms";
pub(crate) const WORKSPACES: &str = "workspaces";
pub(crate) const MACHINE: &str = "machine";
pub(crate) const CONNECTIONS: &str = "connections";
const ROOT: &str = "root";
const CONNECTION: &str = "connection-";

/// The place of an actor in the tree. Its text names the actor in the journal (`NEXUS_ACTOR`), and in what can be asked of
/// the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `root`: the supervisor of everything.
    Root,
    /// `root/vms`: the supervisor of all VMs.
    Vms,
    /// `root/vms/<name>`: the supervisor of one VM.
    Vm(Name),
    /// `root/vms/<name>/machine`: the actor that stands for the VM.
    Machine(Name),
    /// `root/vms/<name>/connections`: the supervisor of the VM's connections.
    Connections(Name),
    /// `root/vms/<name>/connections/connection-<n>`: the actor that stands for a connection of the VM.
    Connection(Name, u32),
    /// `root/workspaces`: the supervisor of all workspaces.
    Workspaces,
    /// `root/workspaces/<name>`: the actor that stands for the workspace.
    Workspace(Name),
    /// Any other, which stands for nothing but itself.
    Other(String),
}

impl Place {
    /// What the supervisor of a VM's connections calls the actor of one.
    pub(crate) fn connection_name(number: u32) -> String {
        format!("{CONNECTION}{number}")
    }

    fn read(text: &str) -> Option<Self> {
        let steps: Vec<&str> = text.split('/').collect();
        Some(match *steps.as_slice() {
            [ROOT] => Self::Root,
            [ROOT, VMS] => Self::Vms,
            [ROOT, VMS, vm] => Self::Vm(vm.parse().ok()?),
            [ROOT, VMS, vm, MACHINE] => Self::Machine(vm.parse().ok()?),
            [ROOT, VMS, vm, CONNECTIONS] => Self::Connections(vm.parse().ok()?),
            [ROOT, VMS, vm, CONNECTIONS, connection] => {
                let number = connection.strip_prefix(CONNECTION)?.parse().ok()?;
                Self::Connection(vm.parse().ok()?, number)
            }
            [ROOT, WORKSPACES] => Self::Workspaces,
            [ROOT, WORKSPACES, name] => Self::Workspace(name.parse().ok()?),
            _ => return None,
        })
    }
}

impl From<&str> for Place {
    fn from(text: &str) -> Self {
        Self::read(text).unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str(ROOT),
            Self::Vms => write!(f, "{ROOT}/{VMS}"),
            Self::Vm(vm) => write!(f, "{ROOT}/{VMS}/{vm}"),
            Self::Machine(vm) => write!(f, "{ROOT}/{VMS}/{vm}/{MACHINE}"),
            Self::Connections(vm) => write!(f, "{ROOT}/{VMS}/{vm}/{CONNECTIONS}"),
            Self::Connection(vm, number) => write!(f, "{ROOT}/{VMS}/{vm}/{CONNECTIONS}/{CONNECTION}{number}"),
            Self::Workspaces => write!(f, "{ROOT}/{WORKSPACES}"),
            Self::Workspace(name) => write!(f, "{ROOT}/{WORKSPACES}/{name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let name = || -> Name { "web-1".parse().unwrap() };
        for (place, text) in [
            (Place::Root, "root"),
            (Place::Vms, "root/vms"),
            (Place::Vm(name()), "root/vms/web-1"),
            (Place::Machine(name()), "root/vms/web-1/machine"),
            (Place::Connections(name()), "root/vms/web-1/connections"),
            (Place::Connection(name(), 2), "root/vms/web-1/connections/connection-2"),
            (Place::Workspaces, "root/workspaces"),
            (Place::Workspace(name()), "root/workspaces/web-1"),
            (Place::Other("root/store".to_owned()), "root/store"),
            (
                Place::Other("root/vms/web-1/connections/connection-x".to_owned()),
                "root/vms/web-1/connections/connection-x",
            ),
            (Place::Other("root/vms/web-1/connection-1".to_owned()), "root/vms/web-1/connection-1"),
            (Place::Other("root/vms/No Name".to_owned()), "root/vms/No Name"),
        ] {
            assert_eq!(place.to_string(), text);
            assert_eq!(Place::from(text), place);
        }
    }
}
