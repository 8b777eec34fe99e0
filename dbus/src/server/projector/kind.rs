//! What kinds of objects there are, and how each is made.

use nexus_actors::snapshot::{
    AssetSnapshot, ConnectionSnapshot, ImageSnapshot, JobId, JobSnapshot, VmSnapshot, WorkspaceSnapshot,
};
use nexus_model::{ArtifactName, Name};
use zbus::{OwnedObjectPath, object_server::Interface};

use crate::server::{
    asset::Asset, connection::Connection, image::Image, job::Job, path, picture::Picture, quiet::Quiet, served::Served,
    vm::Vm, workspace::Workspace,
};

/// One kind of object: the main interface that shows its pictures, and where.
pub(super) trait Kind: Sized {
    /// What tells one from another.
    type Key: Clone + std::hash::Hash + Eq;
    /// The interface.
    type Shown: Interface;

    fn path(key: &Self::Key) -> OwnedObjectPath;
    fn show(engine: &Served, key: &Self::Key, picture: Picture<Self>) -> Self::Shown;
}

impl Kind for VmSnapshot {
    type Key = Name;
    type Shown = Quiet;

    fn path(name: &Name) -> OwnedObjectPath {
        path::vm(name)
    }

    fn show(engine: &Served, name: &Name, picture: Picture<Self>) -> Quiet {
        Quiet(Vm::new(engine.clone(), name.clone(), picture))
    }
}

impl Kind for ConnectionSnapshot {
    type Key = (Name, u32);
    type Shown = Connection;

    fn path((vm, number): &(Name, u32)) -> OwnedObjectPath {
        path::connection(vm, *number)
    }

    fn show(engine: &Served, key: &(Name, u32), picture: Picture<Self>) -> Connection {
        Connection::new(engine.clone(), key.clone(), picture)
    }
}

impl Kind for WorkspaceSnapshot {
    type Key = Name;
    type Shown = Workspace;

    fn path(name: &Name) -> OwnedObjectPath {
        path::workspace(name)
    }

    fn show(engine: &Served, name: &Name, picture: Picture<Self>) -> Workspace {
        Workspace::new(engine.clone(), name.clone(), picture)
    }
}

impl Kind for ImageSnapshot {
    type Key = ArtifactName;
    type Shown = Image;

    fn path(name: &ArtifactName) -> OwnedObjectPath {
        path::image(name)
    }

    fn show(engine: &Served, name: &ArtifactName, picture: Picture<Self>) -> Image {
        Image::new(engine.clone(), name.clone(), picture)
    }
}

impl Kind for AssetSnapshot {
    type Key = ArtifactName;
    type Shown = Asset;

    fn path(name: &ArtifactName) -> OwnedObjectPath {
        path::asset(name)
    }

    fn show(engine: &Served, name: &ArtifactName, picture: Picture<Self>) -> Asset {
        Asset::new(engine.clone(), name.clone(), picture)
    }
}

impl Kind for JobSnapshot {
    type Key = JobId;
    type Shown = Job;

    fn path(id: &JobId) -> OwnedObjectPath {
        path::job(*id)
    }

    fn show(engine: &Served, id: &JobId, picture: Picture<Self>) -> Job {
        Job::new(engine.clone(), *id, picture)
    }
}
