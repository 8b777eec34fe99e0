//! Who owns resources of the host: the rows of the store, and what is about to be one.

use std::{collections::BTreeSet, path::PathBuf};

use nexus_host::resource::{Owner, Place, Resource};
use nexus_model::{ArtifactName, Id, Name};

use crate::{Engine, Error};

/// The owners at one instant.
pub(super) struct Owners {
    vms: BTreeSet<Id>,
    workspaces: BTreeSet<Name>,
    images: BTreeSet<ArtifactName>,
    assets: BTreeSet<Id>,
    /// Where the store says that something is, whatever its name.
    paths: Vec<PathBuf>,
}

impl Owners {
    pub(super) async fn read(engine: &Engine) -> Result<Self, Error> {
        // An asset has a folder before it has a row. The other way round an import that ends meanwhile would be in neither.
        let imports = engine.imports.all();
        let read = engine.store.call(|store| Ok((store.vms()?, store.workspaces()?, store.images()?, store.assets()?)));
        let (vms, workspaces, images, assets) = read.await?;
        let paths = workspaces.iter().map(|row| &row.path).chain(images.iter().map(|row| &row.path));
        let paths = paths.chain(assets.iter().map(|row| &row.path)).cloned().collect();
        Ok(Self {
            vms: vms.iter().map(|row| row.id).collect(),
            workspaces: workspaces.into_iter().map(|row| row.name).collect(),
            images: images.into_iter().map(|row| row.name).collect(),
            assets: assets.iter().map(|row| row.id).chain(imports).collect(),
            paths,
        })
    }

    /// Whether a resource has an owner.
    pub(super) fn have(&self, resource: &Resource) -> bool {
        let named = match &resource.owner {
            Owner::Vm(id) => self.vms.contains(id),
            Owner::Workspace(name) => self.workspaces.contains(name),
            Owner::Image(name) => self.images.contains(name),
            Owner::Asset(id) => self.assets.contains(id),
            Owner::Nobody => false,
        };
        let Place::Path(path, _) = &resource.place else { return named };
        named || self.paths.iter().any(|owned| owned.starts_with(path))
    }
}
