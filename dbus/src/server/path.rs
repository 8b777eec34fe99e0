//! Where objects are. Only the server builds paths; a client asks for them.

use nexus_actors::{
    Place,
    snapshot::{JobId, ObjectRef},
};
use nexus_model::{ArtifactName, Name, path_component};
use zbus::{ObjectPath, OwnedObjectPath};

use crate::ROOT;

/// `/`: no object.
pub(super) fn none() -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked("/").into()
}

/// The object with `Manager`.
pub(super) fn root() -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked(ROOT).into()
}

pub(super) fn vm(name: &Name) -> OwnedObjectPath {
    below(&format!("vm/{}", path_component(name.as_str())))
}

pub(super) fn connection(vm: &Name, number: u32) -> OwnedObjectPath {
    below(&format!("vm/{}/connection/{number}", path_component(vm.as_str())))
}

pub(super) fn workspace(name: &Name) -> OwnedObjectPath {
    below(&format!("workspace/{}", path_component(name.as_str())))
}

pub(super) fn image(name: &ArtifactName) -> OwnedObjectPath {
    below(&format!("image/{}", path_component(name.as_str())))
}

pub(super) fn asset(name: &ArtifactName) -> OwnedObjectPath {
    below(&format!("asset/{}", path_component(name.as_str())))
}

pub(super) fn job(id: JobId) -> OwnedObjectPath {
    below(&format!("job/{id}"))
}

pub(super) fn object(object: &ObjectRef) -> OwnedObjectPath {
    match object {
        ObjectRef::Vm(name) => vm(name),
        ObjectRef::Workspace(name) => workspace(name),
        ObjectRef::Image(name) => image(name),
        ObjectRef::Asset(name) => asset(name),
    }
}

/// The object that an actor shows itself on, by its place in the tree: the thing that it stands for, or one of its own.
pub(super) fn actor(place: &str) -> OwnedObjectPath {
    match Place::from(place) {
        Place::Machine(name) => vm(&name),
        Place::Connection(name, number) => connection(&name, number),
        Place::Workspace(name) => workspace(&name),
        Place::Root | Place::Vms | Place::Vm(_) | Place::Connections(_) | Place::Workspaces | Place::Other(_) => {
            let below_root = place.split_once('/').map_or(place, |(_, below)| below);
            below(&format!("supervisor/{}", path_component(below_root)))
        }
    }
}

fn below(path: &str) -> OwnedObjectPath {
    // Numbers and escaped components have only characters that a path can have, and none is empty.
    ObjectPath::from_string_unchecked(format!("{ROOT}/{path}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(vm(&"web-1".parse().unwrap()).as_str(), "/org/workfort/Nexus1/vm/web_2d1");
        let kernel = "kernel-6.18.9".parse().unwrap();
        assert_eq!(asset(&kernel).as_str(), "/org/workfort/Nexus1/asset/kernel_2d6_2e18_2e9");
        assert_eq!(image(&"3proxy".parse().unwrap()).as_str(), "/org/workfort/Nexus1/image/_33proxy");
    }

    #[test]
    fn an_actor_is_on_its_thing_or_on_an_object_of_its_own() {
        for (place, path) in [
            ("root", "supervisor/root"),
            ("root/vms", "supervisor/vms"),
            ("root/vms/web", "supervisor/vms_2fweb"),
            ("root/vms/web-1/machine", "vm/web_2d1"),
            ("root/vms/web/connections", "supervisor/vms_2fweb_2fconnections"),
            ("root/vms/web-1/connections/connection-2", "vm/web_2d1/connection/2"),
            ("root/vms/web/connections/connection-x", "supervisor/vms_2fweb_2fconnections_2fconnection_2dx"),
            ("root/workspaces/a", "workspace/a"),
            ("root/store", "supervisor/store"),
        ] {
            assert_eq!(actor(place).as_str(), format!("{ROOT}/{path}"), "{place}");
            ObjectPath::try_from(actor(place).as_str()).unwrap();
        }
    }
}
