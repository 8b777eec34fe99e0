//! The actor of master images.
//!
//! Owns the rows of all images, what is shown of them, and what is left of those that are not to be. Supervised by the
//! root. A crash loses nothing: its next incarnation reads the rows, undoes imports and finishes removals that were cut
//! off, and shows what is there.

mod requests;

use std::{collections::BTreeMap, time::Duration};

use nexus_model::{ArtifactState, ErrorKind, Id, restart::Backoff};
use nexus_store::ImageRow;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::{
    Engine, Error,
    ask::Reply,
    snapshot::ImageSnapshot,
    supervisor::{ChildContext, ChildSpec},
    work::blocking,
};

/// How soon it is tried again to remove what could not be removed: a full disk is the likely reason.
const UNDO: Backoff = Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(60), jitter: 0.2 };

/// What the actor of images is asked.
pub(crate) enum ImageMessage {
    /// Store a new row.
    Insert { row: Box<ImageRow>, reply: Reply<()> },
    /// Store a changed row, and show it when it is ready.
    Update { row: Box<ImageRow>, reply: Reply<()> },
    /// Forget a row, whose folder is gone. `InUse` while a workspace was made from it.
    Delete { id: Id, reply: Reply<()> },
    /// Remove folder and row of an image that could not be imported. Answered once that was tried: what can't be
    /// removed now is removed later.
    Undo { row: Box<ImageRow>, reply: Reply<()> },
    /// It is time to try again. From its own timer.
    UndoLeft,
    /// Which workspaces were made from which image has changed.
    Refresh,
}

struct ImagesActor;

struct State {
    engine: Engine,
    rows: BTreeMap<Id, ImageRow>,
    /// What is to be removed and could not be, with why.
    left: BTreeMap<Id, (ImageRow, String)>,
    /// How often that was tried again since something came to it.
    tries: u32,
    /// Tells when it is time to try again.
    timer: Option<AbortOnDropHandle<()>>,
    _child: ChildContext,
}

impl Actor for ImagesActor {
    type Msg = ImageMessage;
    type State = State;
    type Arguments = (Engine, ChildContext);

    async fn pre_start(
        &self,
        _myself: ActorRef<ImageMessage>,
        (engine, child): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { engine, rows: BTreeMap::new(), left: BTreeMap::new(), tries: 0, timer: None, _child: child })
    }

    async fn post_start(&self, myself: ActorRef<ImageMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let rows = state.engine.store.call_now(|store| store.images()).await?;
        state.rows = rows.iter().map(|row| (row.id, row.clone())).collect();
        for row in rows {
            // The job of an import that is under way goes on, and asks for it to be shown.
            if row.state == ArtifactState::Ready || state.engine.imports.contains(&row.id) {
                continue;
            }
            info!(NEXUS_IMAGE = %row.name, "image {} was {} when that was cut off: it is removed", row.name, row.state);
            // What can't be removed must not keep everything else from starting.
            state.undo(row).await;
        }
        let (storage, folder) = (state.engine.storage.clone(), state.engine.settings.folders.images());
        match blocking(move || Ok(storage.sweep(&folder)?)).await {
            Ok(left) => left.iter().for_each(|path| info!("removed {}: an unfinished image", path.display())),
            Err(error) => warn!("what is left of unfinished images stays: {}", error.text()),
        }
        state.publish();
        state.try_again_later(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ImageMessage>,
        message: ImageMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.images");
        match message {
            ImageMessage::Insert { row, reply } => {
                let stored = row.clone();
                let result = state.engine.store.call_now(move |store| store.insert_image(&stored)).await;
                if result.is_ok() {
                    state.rows.insert(row.id, *row);
                }
                let _ = reply.send(result);
            }
            ImageMessage::Update { row, reply } => {
                let stored = row.clone();
                let result = state.engine.store.call_now(move |store| store.update_image(&stored)).await;
                if result.is_ok() {
                    state.rows.insert(row.id, *row);
                    state.publish();
                }
                let _ = reply.send(result);
            }
            ImageMessage::Delete { id, reply } => {
                let _ = reply.send(state.forget(id).await);
            }
            ImageMessage::Undo { row, reply } => {
                state.undo(*row).await;
                state.tries = 0;
                state.try_again_later(&myself);
                let _ = reply.send(Ok(()));
            }
            ImageMessage::UndoLeft => {
                let left: Vec<ImageRow> = state.left.values().map(|(row, _)| row.clone()).collect();
                for row in left {
                    state.undo(row).await;
                }
                state.tries = state.tries.saturating_add(1);
                state.try_again_later(&myself);
            }
            ImageMessage::Refresh => state.publish(),
        }
        Ok(())
    }
}

impl State {
    /// Forgets a row, whose folder is gone.
    async fn forget(&mut self, id: Id) -> Result<(), Error> {
        self.engine.store.call_now(move |store| store.delete_image(id)).await?;
        if let Some(row) = self.rows.remove(&id) {
            self.engine.board.withdraw_image(&row.name);
        }
        Ok(())
    }

    /// Removes an image that is not to be, or keeps in mind that it is left.
    async fn undo(&mut self, row: ImageRow) {
        let name = &row.name;
        match self.discard(&row).await {
            Ok(()) => {
                if self.left.remove(&row.id).is_some() {
                    info!(NEXUS_IMAGE = %name, "what was left of image {name} is removed");
                }
            }
            Err(error) => {
                let why = error.text();
                if self.left.get(&row.id).is_none_or(|(_, last)| *last != why) {
                    warn!(NEXUS_IMAGE = %name, "what is left of image {name} is removed later: {why}");
                }
                self.left.insert(row.id, (row, why));
            }
        }
    }

    /// Done again it changes nothing.
    async fn discard(&mut self, row: &ImageRow) -> Result<(), Error> {
        let (storage, path, id) = (self.engine.storage.clone(), row.path.clone(), row.id);
        // The folder goes by its name, which is another image's once the row is gone.
        match self.engine.store.call_now(move |store| store.image(id)).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        blocking(move || Ok(storage.remove(&path)?)).await?;
        self.forget(id).await
    }

    /// Has what is left tried again. While nothing is, there is no timer.
    fn try_again_later(&mut self, myself: &ActorRef<ImageMessage>) {
        self.timer = (!self.left.is_empty()).then(|| {
            let (myself, wait) = (myself.clone(), UNDO.delay(self.tries, fastrand::f64()));
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                let _ = myself.send_message(ImageMessage::UndoLeft);
            }))
        });
    }

    fn publish(&self) {
        let workspaces = self.engine.board.workspaces().all();
        for row in self.rows.values().filter(|row| row.state == ArtifactState::Ready) {
            let used_by = workspaces.iter().filter(|workspace| workspace.base.as_ref() == Some(&row.name));
            let picture = ImageSnapshot {
                id: row.id,
                name: row.name.clone(),
                digest: row.digest.clone(),
                path: row.path.clone(),
                size_bytes: row.size_bytes,
                origin: row.origin.clone(),
                os_name: row.os_name.clone(),
                os_version: row.os_version.clone(),
                used_by: used_by.map(|workspace| workspace.name.clone()).collect(),
                created_at: row.created_at,
            };
            self.engine.board.publish_image(row.name.clone(), picture);
        }
    }
}

/// The actor as a child of the root.
pub(crate) fn child_spec(engine: &Engine) -> ChildSpec {
    let (engine, slot) = (engine.clone(), engine.images.clone());
    ChildSpec::new("images", move |child: ChildContext| {
        let engine = engine.clone();
        async move { child.clone().spawn(ImagesActor, (engine, child)).await }
    })
    .published_in(&slot)
}
