//! Finding one's way among all objects.

use nexus_dbus::client::{AssetProperties, ImageProperties, SupervisedProperties, VmProperties, WorkspaceProperties};
use zbus::OwnedObjectPath;

use crate::bus::Objects;

impl Objects {
    /// The name of what is at a path; none for `/` and for what is gone.
    pub(crate) fn name(&self, path: &OwnedObjectPath) -> Option<String> {
        let object = self.all.get(path)?;
        let vm = object.vm.as_ref().map(|vm| &vm.name);
        let workspace = object.workspace.as_ref().map(|workspace| &workspace.name);
        let image = object.image.as_ref().map(|image| &image.name);
        let asset = object.asset.as_ref().map(|asset| &asset.name);
        vm.or(workspace).or(image).or(asset).cloned()
    }

    /// The names of what is at these paths, or was; `/` is no object and has none.
    pub(crate) fn names(&self, paths: &[OwnedObjectPath]) -> Vec<String> {
        let gone = |path: &OwnedObjectPath| decode(path.as_str().rsplit('/').next().unwrap_or_default());
        let objects = paths.iter().filter(|path| path.as_str() != "/");
        objects.map(|path| self.name(path).unwrap_or_else(|| gone(path))).collect()
    }

    /// All VMs by name, and how their machines' actors are.
    pub(crate) fn vms(&self) -> Vec<(&VmProperties, Option<&SupervisedProperties>)> {
        let objects = self.all.values();
        let with_health = objects.filter_map(|object| Some((object.vm.as_ref()?, object.supervised.as_ref())));
        let mut vms: Vec<_> = with_health.collect();
        vms.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        vms
    }

    /// Why the guest of a VM does not answer; empty where nobody knows.
    pub(crate) fn silence(&self, vm: &VmProperties) -> &str {
        let connections = vm.connections.iter().filter_map(|path| self.all.get(path)?.connection.as_ref());
        let mut agents = connections.filter(|connection| connection.is_of_agent());
        agents.next().map_or("", |agent| agent.failure_reason.as_str())
    }

    /// All workspaces by name.
    pub(crate) fn workspaces(&self) -> Vec<&WorkspaceProperties> {
        let mut workspaces: Vec<_> = self.all.values().filter_map(|object| object.workspace.as_ref()).collect();
        workspaces.sort_by(|one, other| one.name.cmp(&other.name));
        workspaces
    }

    /// All images by name.
    pub(crate) fn images(&self) -> Vec<&ImageProperties> {
        let mut images: Vec<_> = self.all.values().filter_map(|object| object.image.as_ref()).collect();
        images.sort_by(|one, other| one.name.cmp(&other.name));
        images
    }

    /// All assets by kind and name.
    pub(crate) fn assets(&self) -> Vec<&AssetProperties> {
        let mut assets: Vec<_> = self.all.values().filter_map(|object| object.asset.as_ref()).collect();
        assets.sort_by(|one, other| (&one.kind, &one.name).cmp(&(&other.kind, &other.name)));
        assets
    }
}

/// What an element of an object path stands for: the other way round than `sd_bus_path_encode(3)`.
pub(crate) fn decode(element: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = element.bytes();
    while let Some(byte) = rest.next() {
        let mut digits = rest.clone();
        let hex = |digit: Option<u8>| char::from(digit?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (byte, hex(digits.next()), hex(digits.next())) {
            (b'_', Some(high), Some(low)) => {
                bytes.push(high << 4 | low);
                rest = digits;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::sample;

    #[test]
    fn what_is_gone_has_the_name_that_it_had_and_nothing_has_none() {
        let objects = sample::objects(vec![sample::vm("web")]);
        assert_eq!(
            objects.names(&[sample::path("/vm/web"), sample::path("/"), sample::path("/vm/db_2d1")]),
            ["web", "db-1"]
        );
    }

    #[test]
    fn elements_of_paths_are_decoded() {
        for (element, text) in [("vms_2fweb_2d1", "vms/web-1"), ("_33proxy", "3proxy"), ("a_", "a_"), ("_zz", "_zz")] {
            assert_eq!(decode(element), text);
        }
    }
}
