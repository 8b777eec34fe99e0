//! What a start function is given.

use std::sync::Arc;

use ractor::{Actor, ActorCell, SpawnErr};

use super::{
    Lease, Reporter, StatusBoard, SupervisorConfig,
    actor::{Supervisor, SupervisorArguments},
};

/// What one incarnation of a child is given by its supervisor.
#[derive(Clone, Debug)]
pub struct ChildContext {
    /// The actor to link the child to.
    pub supervisor: ActorCell,
    /// Where the child is in the tree, such as `root/vms/vm-web/machine`.
    pub path: String,
    /// To be held by everything that belongs to this incarnation.
    pub lease: Lease,
    /// The number of this incarnation: higher than that of every one before, so that what a survivor writes can be told
    /// from what this one writes.
    pub generation: u64,
    /// Tells how the actor is.
    pub reporter: Reporter,
    pub(super) board: StatusBoard,
}

impl ChildContext {
    /// Spawns `actor` linked to the supervisor. It gets no registered name: callers find it through its
    /// [slot](super::ActorSlot).
    ///
    /// # Errors
    ///
    /// As `Actor::spawn_linked`.
    pub async fn spawn<A: Actor>(&self, actor: A, arguments: A::Arguments) -> Result<ActorCell, SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, actor, arguments, self.supervisor.clone()).await?;
        Ok(actor.get_cell())
    }

    /// Spawns a supervisor linked to this one. It is up as soon as it runs; its children start after that.
    ///
    /// # Errors
    ///
    /// When names of children are not valid or not different.
    pub async fn spawn_supervisor(self, config: SupervisorConfig) -> Result<ActorCell, SpawnErr> {
        let supervisor = self.supervisor.clone();
        let arguments = SupervisorArguments {
            path: self.path,
            config,
            board: self.board,
            lease: Some(Arc::new(self.lease)),
            end: None,
        };
        let (actor, _) = Actor::spawn_linked(None, Supervisor, arguments, supervisor).await?;
        Ok(actor.get_cell())
    }
}
