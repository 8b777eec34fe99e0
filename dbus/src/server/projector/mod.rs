//! The one task that adds and removes objects and sends signals.
//!
//! It reads the engine's queue, so that it shows every transition, and in order. It must never wait for the engine: a
//! handler may be waiting for it. It is made anew with the connection, and loses nothing: all there is comes first.

mod actors;
mod emit;
mod kind;
mod seen;

use std::{mem, sync::Arc};

use nexus_actors::snapshot::{
    AssetSnapshot, Change, Changes, ConnectionSnapshot, ImageSnapshot, JobId, JobSnapshot, ManagerSnapshot, Update,
    VmSnapshot, WorkspaceSnapshot,
};
use nexus_model::{ArtifactName, ExitStatus, Name};
use tokio::sync::watch;
use tracing::{error, info};
use zbus::{
    Connection, ObjectServer,
    object_server::{Interface, SignalEmitter},
};

use self::{actors::Actors, kind::Kind, seen::Seen};
use super::{
    bond::close_with_owner,
    guest::Guest,
    manager::Manager,
    path,
    picture::Picture,
    served::Served,
    tally::Tally,
    vm::{self, Vm},
};

/// Shows the engine on a connection.
#[derive(Debug)]
pub(super) struct Projector {
    stage: Stage,
    changes: Changes,
    vms: Seen<Name, VmSnapshot>,
    /// Those VMs whose guests are there.
    guests: Seen<Name, VmSnapshot>,
    connections: Seen<(Name, u32), ConnectionSnapshot>,
    workspaces: Seen<Name, WorkspaceSnapshot>,
    images: Seen<ArtifactName, ImageSnapshot>,
    assets: Seen<ArtifactName, AssetSnapshot>,
    jobs: Seen<JobId, JobSnapshot>,
    actors: Actors,
    manager: Manager,
    tally: watch::Sender<Arc<Tally>>,
    shown: (Arc<ManagerSnapshot>, Arc<Tally>),
}

/// Where objects are put and signals sent.
#[derive(Clone, Debug)]
struct Stage {
    connection: Connection,
    engine: Served,
    /// Whether all is there that was before anybody looked: nothing of that is news.
    populated: bool,
}

impl Stage {
    fn objects(&self) -> &ObjectServer {
        self.connection.object_server()
    }

    fn emitter(&self, path: zbus::OwnedObjectPath) -> SignalEmitter<'static> {
        SignalEmitter::from_parts(self.connection.clone(), path.into_inner())
    }

    async fn add<I: Interface>(&self, path: &zbus::OwnedObjectPath, interface: I) -> zbus::Result<()> {
        if self.objects().at(path, interface).await?.is_some() {
            error!(%path, interface = %I::name(), "an object is there already; it is not replaced");
        }
        Ok(())
    }

    async fn remove<I: Interface>(&self, path: &zbus::OwnedObjectPath) -> zbus::Result<()> {
        match self.objects().remove::<I, _>(path).await {
            Ok(_) => Ok(()),
            Err(zbus::Error::InterfaceNotFound) => {
                error!(%path, interface = %I::name(), "an object that went was not there");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Shows one step of one object; the pictures before and after it.
    async fn show<T: Kind>(&self, seen: &mut Seen<T::Key, T>, update: Update<T::Key, T>) -> zbus::Result<Step<T>> {
        match update {
            Update::Added(key, after) => {
                let picture = seen.add(key.clone(), after.clone());
                self.add(&T::path(&key), T::show(&self.engine, &key, picture)).await?;
                Ok(Step { before: None, after: Some(after) })
            }
            Update::Changed(key, after) => {
                let Some(before) = seen.change(&key, after.clone()) else {
                    return Ok(Step { before: None, after: None });
                };
                let still = |picture: &Arc<T>| T::show(&self.engine, &key, Picture::Still(picture.clone()));
                emit::differences(&self.emitter(T::path(&key)), &still(&before), &still(&after)).await?;
                Ok(Step { before: Some(before), after: Some(after) })
            }
            Update::Removed(key) => {
                let Some(last) = seen.remove(&key) else { return Ok(Step { before: None, after: None }) };
                self.remove::<T::Shown>(&T::path(&key)).await?;
                Ok(Step { before: Some(last), after: None })
            }
        }
    }
}

/// An object before and after a step; neither when there was nothing to show.
#[derive(Debug)]
struct Step<T> {
    before: Option<Arc<T>>,
    after: Option<Arc<T>>,
}

impl Projector {
    pub(super) fn new(
        connection: Connection,
        manager: Manager,
        tally: watch::Sender<Arc<Tally>>,
        changes: Changes,
    ) -> Self {
        let shown = (manager.picture.get(), tally.borrow().clone());
        Self {
            stage: Stage { connection, engine: manager.engine.clone(), populated: false },
            changes,
            vms: Seen::default(),
            guests: Seen::default(),
            connections: Seen::default(),
            workspaces: Seen::default(),
            images: Seen::default(),
            assets: Seen::default(),
            jobs: Seen::default(),
            actors: Actors::default(),
            manager,
            tally,
            shown,
        }
    }

    /// Shows all that is there already, which is no news.
    pub(super) async fn populate(&mut self) -> zbus::Result<()> {
        while let Ok(change) = self.changes.try_recv() {
            self.project(change).await?;
        }
        self.stage.populated = true;
        Ok(())
    }

    /// Shows every change until the connection is lost or another projector has taken over.
    pub(super) async fn run(mut self) {
        let connection = self.stage.connection.clone();
        loop {
            let change = tokio::select! {
                change = self.changes.recv() => change,
                () = connection.closed() => None,
            };
            let Some(change) = change else { break };
            if let Err(failure) = self.project(change).await {
                if connection.is_closed() {
                    break;
                }
                error!(%failure, "a change could not be shown");
            }
        }
        info!("nothing more is shown on this connection");
    }

    async fn project(&mut self, change: Change) -> zbus::Result<()> {
        let shown = match change {
            Change::Vm(update) => self.vm(update).await,
            Change::Connection(update) => self.connection(update).await,
            Change::Workspace(update) => self.stage.show(&mut self.workspaces, update).await.map(drop),
            Change::Image(update) => self.stage.show(&mut self.images, update).await.map(drop),
            Change::Asset(update) => self.stage.show(&mut self.assets, update).await.map(drop),
            Change::Job(update) => self.job(update).await,
            Change::Actor(update) => self.actor(update).await,
            Change::Manager(_) => Ok(()),
            Change::VmExited { name, status, reason } => self.exited(&name, status, &reason).await,
            Change::Barrier(done) => {
                let shown = self.manager().await;
                // Nobody waits any more: the call's deadline has passed.
                let _ = done.send(());
                return shown;
            }
        };
        self.manager().await?;
        shown
    }

    async fn vm(&mut self, update: Update<Name, VmSnapshot>) -> zbus::Result<()> {
        let (name, after) = match &update {
            Update::Added(name, picture) | Update::Changed(name, picture) => (name.clone(), Some(picture.clone())),
            Update::Removed(name) => (name.clone(), None),
        };
        let guest = after.filter(|vm| vm.guest.is_some());
        // Whoever is told that a guest is ready, or reads it, finds its `Guest`.
        if guest.is_some() && self.vms.get(&name).is_some() && self.guests.get(&name).is_none() {
            self.guest(&name, guest.clone()).await?;
        }
        let step = self.stage.show(&mut self.vms, update).await?;
        let (before, after) = (step.before.as_deref(), step.after.as_deref());
        self.tally.send_modify(|tally| Arc::make_mut(tally).vm(before, after));
        self.guest(&name, guest).await
    }

    /// `Guest` is there while the agent is connected.
    async fn guest(&mut self, name: &Name, after: Option<Arc<VmSnapshot>>) -> zbus::Result<()> {
        let path = path::vm(name);
        let guest = |picture| Guest::new(self.stage.engine.clone(), name.clone(), picture);
        match (self.guests.get(name), after) {
            (None, None) => Ok(()),
            (None, Some(after)) => {
                let picture = self.guests.add(name.clone(), after);
                self.stage.add(&path, guest(picture)).await
            }
            (Some(_), None) => {
                self.guests.remove(name);
                self.stage.remove::<Guest>(&path).await
            }
            (Some(before), Some(after)) => {
                self.guests.change(name, after.clone());
                let still = |picture: &Arc<VmSnapshot>| guest(Picture::Still(picture.clone()));
                emit::differences(&self.stage.emitter(path), &still(&before), &still(&after)).await
            }
        }
    }

    async fn connection(&mut self, update: Update<(Name, u32), ConnectionSnapshot>) -> zbus::Result<()> {
        if let Update::Added(key, picture) = &update
            && picture.owner.starts_with(':')
        {
            let (bus, engine) = (self.stage.connection.clone(), (*self.stage.engine).clone());
            close_with_owner(bus, engine, key.clone(), picture.owner.clone());
        }
        self.stage.show(&mut self.connections, update).await.map(drop)
    }

    async fn job(&mut self, update: Update<JobId, JobSnapshot>) -> zbus::Result<()> {
        let step = self.stage.show(&mut self.jobs, update).await?;
        let (before, after) = (step.before.as_deref(), step.after.as_deref());
        self.tally.send_modify(|tally| Arc::make_mut(tally).job(before, after));
        let Some(job) = after.filter(|_| self.stage.populated) else { return Ok(()) };
        let (emitter, path, kind) = (self.stage.emitter(path::root()), path::job(job.id), job.kind.as_str());
        if before.is_none() {
            Manager::job_new(&emitter, job.id, path.as_ref(), kind).await?;
        }
        if job.state.is_final() && before.is_none_or(|before| !before.state.is_final()) {
            Manager::job_removed(&emitter, job.id, path.as_ref(), kind, job.state.as_str()).await?;
        }
        Ok(())
    }

    async fn exited(&self, name: &Name, status: ExitStatus, reason: &str) -> zbus::Result<()> {
        let (path, code, cause) = (path::vm(name), status.shell_code(), vm::cause(status));
        Vm::exited(&self.stage.emitter(path.clone()), code, cause, reason).await?;
        let root = self.stage.emitter(path::root());
        Manager::vm_exited(&root, name.as_str(), path.as_ref(), code, cause, reason).await
    }

    /// Announces what the daemon as a whole has become by the last step.
    async fn manager(&mut self) -> zbus::Result<()> {
        let now = (self.manager.picture.get(), self.tally.borrow().clone());
        if now == self.shown {
            return Ok(());
        }
        let before = mem::replace(&mut self.shown, now.clone());
        if !self.stage.populated {
            return Ok(());
        }
        let still = |(picture, tally): (Arc<ManagerSnapshot>, Arc<Tally>)| Manager {
            picture: Picture::Still(picture),
            tally: Picture::Still(tally),
            ..self.manager.clone()
        };
        emit::differences(&self.stage.emitter(path::root()), &still(before), &still(now)).await
    }
}
