//! The top of a tree.

use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::oneshot;

use super::{
    GaveUp, StatusBoard, SupervisorConfig, SupervisorMessage,
    actor::{Supervisor, SupervisorArguments},
};

/// The supervisor at the top of a tree, which nobody supervises.
#[derive(Debug)]
pub struct Root {
    /// Takes requests as any supervisor does.
    pub actor: ActorRef<SupervisorMessage>,
    path: String,
    board: StatusBoard,
    end: oneshot::Receiver<RootEnd>,
}

/// How a tree ended.
#[derive(Debug)]
pub enum RootEnd {
    /// As it was asked to.
    Shutdown,
    /// One of the root's own children gave up.
    GaveUp(GaveUp),
    /// The root was killed or failed itself.
    Killed,
}

impl Root {
    /// Starts a tree whose root has the path `path`.
    ///
    /// # Errors
    ///
    /// When `path` or the names of children are not valid, or names are not different.
    pub async fn spawn(path: &str, config: SupervisorConfig, board: StatusBoard) -> Result<Self, SpawnErr> {
        let (sender, end) = oneshot::channel();
        let arguments =
            SupervisorArguments { path: path.to_owned(), config, board: board.clone(), lease: None, end: Some(sender) };
        board.add(path, None, None, 1);
        board.starting(path, 1);
        match Actor::spawn(None, Supervisor, arguments).await {
            Ok((actor, _)) => Ok(Self { actor, path: path.to_owned(), board, end }),
            Err(error) => {
                board.remove(path);
                Err(error)
            }
        }
    }

    /// Waits until the tree has ended, and takes it off the board.
    pub async fn ended(self) -> RootEnd {
        let end = self.end.await.unwrap_or(RootEnd::Killed);
        self.board.remove(&self.path);
        end
    }
}
