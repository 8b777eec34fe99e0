//! The actor of kernels and initrds.
//!
//! Owns the rows of all assets and what is shown of them. Supervised by the root. A crash loses nothing: its next
//! incarnation reads the rows, removes what was being made when the daemon ended, and shows what is there.

mod requests;

pub(crate) use requests::initrd_of;

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use nexus_host::asset;
use nexus_model::{ArtifactName, AssetKind, Id, Name};
use nexus_store::AssetRow;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::{info, warn};

use crate::{
    Engine, Error,
    ask::Reply,
    snapshot::AssetSnapshot,
    supervisor::{ChildContext, ChildSpec},
    work::blocking,
};

/// What the actor of assets is asked.
pub(crate) enum AssetMessage {
    /// Store an asset whose folder is whole.
    Insert { row: Box<AssetRow>, default: bool, reply: Reply<()> },
    /// Take one as the default of its kind.
    MakeDefault { id: Id, reply: Reply<()> },
    /// Forget a row and remove its folder.
    Delete { id: Id, reply: Reply<()> },
    /// Which VMs use which asset has changed.
    Refresh,
}

struct AssetsActor;

struct State {
    engine: Engine,
    _child: ChildContext,
}

impl Actor for AssetsActor {
    type Msg = AssetMessage;
    type State = State;
    type Arguments = (Engine, ChildContext);

    async fn pre_start(
        &self,
        _myself: ActorRef<AssetMessage>,
        (engine, child): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { engine, _child: child })
    }

    async fn post_start(&self, _myself: ActorRef<AssetMessage>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let folder = state.engine.settings.folders.assets();
        match blocking(move || Ok(asset::sweep(&folder)?)).await {
            Ok(left) => left.iter().for_each(|path| info!("removed {}: an unfinished asset", path.display())),
            Err(error) => warn!("what is left of unfinished assets stays: {}", error.text()),
        }
        state.publish().await?;
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<AssetMessage>,
        message: AssetMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        nexus_model::failpoint("actor.assets");
        match message {
            AssetMessage::Insert { row, default, reply } => {
                let _ = reply.send(state.insert(*row, default).await);
            }
            AssetMessage::MakeDefault { id, reply } => {
                let result = state.engine.store.call_now(move |store| store.make_default_asset(id)).await;
                state.publish().await?;
                let _ = reply.send(result);
            }
            AssetMessage::Delete { id, reply } => {
                let _ = reply.send(state.delete(id).await);
            }
            AssetMessage::Refresh => state.publish().await?,
        }
        Ok(())
    }
}

impl State {
    async fn insert(&self, row: AssetRow, default: bool) -> Result<(), Error> {
        let kind = row.kind;
        let none_yet = self.engine.board.assets().all().iter().all(|asset| asset.kind != kind);
        self.engine
            .store
            .call_now(move |store| {
                store.together(|store| {
                    store.insert_asset(&row)?;
                    if default || none_yet { store.make_default_asset(row.id) } else { Ok(()) }
                })
            })
            .await?;
        self.publish().await
    }

    async fn delete(&self, id: Id) -> Result<(), Error> {
        let row = self.engine.store.call_now(move |store| store.asset(id)).await?;
        // The row first: a folder without a row is an orphan, a row without a folder would be a lie.
        self.engine.store.call_now(move |store| store.delete_asset(id)).await?;
        self.engine.board.withdraw_asset(&row.name);
        self.publish().await?;
        info!(NEXUS_ASSET = %row.name, "asset {} removed", row.name);
        let Some(folder) = row.path.parent().map(Path::to_owned) else { return Ok(()) };
        blocking(move || Ok(asset::remove(&folder)?)).await
    }

    async fn publish(&self) -> Result<(), Error> {
        // Whatever changes from here on asks for another look.
        self.engine.assets_stale.store(false, Ordering::SeqCst);
        let vms = self.engine.board.vms().all();
        let rows = self.engine.store.call_now(|store| store.assets()).await?;
        let rows: BTreeMap<ArtifactName, AssetRow> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        let default =
            rows.values().find(|row| row.is_default && row.kind == AssetKind::Kernel).map(|row| row.name.clone());
        for (name, row) in &rows {
            let used_by = vms.iter().filter(|vm| vm.assets.contains(name)).map(|vm| vm.name.clone()).collect();
            self.engine.board.publish_asset(name.clone(), picture(row, used_by));
        }
        *self.engine.assets_now.write().unwrap_or_else(std::sync::PoisonError::into_inner) = rows;
        self.engine.board.update_manager(|manager| manager.default_kernel = default);
        Ok(())
    }
}

fn picture(row: &AssetRow, used_by: Vec<Name>) -> AssetSnapshot {
    AssetSnapshot {
        id: row.id,
        kind: row.kind,
        name: row.name.clone(),
        version: row.version.clone(),
        architecture: row.architecture.clone(),
        digest: row.digest.clone(),
        source: row.source.clone(),
        path: row.path.clone(),
        verification: row.verification,
        size_bytes: row.size_bytes,
        default: row.is_default,
        used_by,
        created_at: row.created_at,
    }
}

/// The actor as a child of the root.
pub(crate) fn child_spec(engine: &Engine) -> ChildSpec {
    let (engine, slot) = (engine.clone(), engine.assets.clone());
    ChildSpec::new("assets", move |child: ChildContext| {
        let engine = engine.clone();
        async move { child.clone().spawn(AssetsActor, (engine, child)).await }
    })
    .published_in(&slot)
}
