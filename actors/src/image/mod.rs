//! The actor of master images.
//!
//! Owns the rows of all images and what is shown of them. Supervised by the root. A crash loses nothing: its next
//! incarnation reads the rows, undoes imports and finishes removals that were cut off, and shows what is there.

mod requests;

use std::collections::BTreeMap;

use nexus_model::{ArtifactState, Id};
use nexus_store::ImageRow;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::{info, warn};

use crate::{
    Engine, Error,
    ask::Reply,
    snapshot::ImageSnapshot,
    supervisor::{ChildContext, ChildSpec},
    work::blocking,
};

/// What the actor of images is asked.
pub(crate) enum ImageMessage {
    /// Store a new row.
    Insert { row: Box<ImageRow>, reply: Reply<()> },
    /// Store a changed row, and show it when it is ready.
    Update { row: Box<ImageRow>, reply: Reply<()> },
    /// Forget a row, whose folder is gone. `InUse` while a workspace was made from it.
    Delete { id: Id, reply: Reply<()> },
    /// Which workspaces were made from which image has changed.
    Refresh,
}

struct ImagesActor;

struct State {
    engine: Engine,
    rows: BTreeMap<Id, ImageRow>,
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
        Ok(State { engine, rows: BTreeMap::new(), _child: child })
    }

    async fn post_start(&self, _myself: ActorRef<ImageMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let rows = state.engine.store.call_now(|store| store.images()).await?;
        for row in rows {
            if row.state == ArtifactState::Ready {
                state.rows.insert(row.id, row);
                continue;
            }
            if state.engine.imports.contains(&row.id) {
                // Its job goes on, and asks for it to be shown.
                continue;
            }
            info!(NEXUS_IMAGE = %row.name, "image {} was {} when the daemon ended: it is removed", row.name, row.state);
            // What can't be removed must not keep everything else from starting: it is tried again at the next start.
            if let Err(error) = state.discard(&row).await {
                warn!(NEXUS_IMAGE = %row.name, "image {} could not be removed: {}", row.name, error.text());
            }
        }
        let (storage, folder) = (state.engine.storage.clone(), state.engine.settings.folders.images());
        match blocking(move || Ok(storage.sweep(&folder)?)).await {
            Ok(left) => left.iter().for_each(|path| info!("removed {}: an unfinished image", path.display())),
            Err(error) => warn!("what is left of unfinished images stays: {}", error.text()),
        }
        state.publish();
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<ImageMessage>,
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
                let result = state.engine.store.call_now(move |store| store.delete_image(id)).await;
                if result.is_ok()
                    && let Some(row) = state.rows.remove(&id)
                {
                    state.engine.board.withdraw_image(&row.name);
                }
                let _ = reply.send(result);
            }
            ImageMessage::Refresh => state.publish(),
        }
        Ok(())
    }
}

impl State {
    async fn discard(&self, row: &ImageRow) -> Result<(), Error> {
        let (storage, path, id) = (self.engine.storage.clone(), row.path.clone(), row.id);
        blocking(move || Ok(storage.remove(&path)?)).await?;
        self.engine.store.call_now(move |store| store.delete_image(id)).await
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
