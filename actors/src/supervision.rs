//! What can be asked of the supervisors.

use nexus_model::ErrorKind;
use ractor::RpcReplyPort;

use crate::{
    Engine, Error, Origin, Place,
    ask::{ACTOR_DEADLINE, ask, ask_actor},
    supervisor::{ActorSlot, ChildSpec, RequestError, SupervisorMessage},
};

impl Engine {
    /// Forgets the failures of an actor, by its place in the tree, and of the VM that it stands for if it is one's
    /// machine. What had given up is tried again: the actor, or a VM that its restart policy had given up on.
    ///
    /// # Errors
    /// `NotFound`; `StorageFailed` when that a VM's failures are forgotten can't be stored.
    pub async fn reset_failed(&self, origin: &Origin, actor: &str) -> Result<(), Error> {
        self.ask_supervisor_of(actor, |name, reply| SupervisorMessage::Reset { name, reply }).await?;
        match Place::from(actor) {
            Place::Machine(vm) => self.reset_vm(origin, &vm).await,
            _ => Ok(()),
        }
    }

    /// Restarts an actor, by its place in the tree, and leaves the thing that it stands for alone.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when it does not come up again.
    pub async fn restart_actor(&self, actor: &str) -> Result<(), Error> {
        self.ask_supervisor_of(actor, |name, reply| SupervisorMessage::Restart { name, reply }).await.map(|_: u64| ())
    }

    /// Adds a child to a supervisor and waits until it is up.
    pub(crate) async fn start_child(
        &self,
        supervisor: &ActorSlot<SupervisorMessage>,
        spec: ChildSpec,
    ) -> Result<(), Error> {
        let spec = Box::new(spec);
        // A child that fails to start stays supervised: that is shown on it, and is no failure of what was asked.
        match ask(supervisor, "a supervisor", |reply| SupervisorMessage::Start(spec, reply.into())).await? {
            // One that is there is the same: its supervisor was restarted meanwhile, and has read the rows.
            Ok(_) | Err(RequestError::Faulted { .. } | RequestError::Exists(_)) => Ok(()),
            Err(error) => Err(Error::caused(ErrorKind::Internal, "its actor could not be started", error)),
        }
    }

    /// Stops a child and forgets it.
    pub(crate) async fn stop_child(&self, supervisor: &ActorSlot<SupervisorMessage>, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        match ask(supervisor, "a supervisor", |reply| SupervisorMessage::Remove { name, reply: reply.into() }).await? {
            Ok(()) | Err(RequestError::Unknown(_)) => Ok(()),
            Err(error) => Err(Error::caused(ErrorKind::Internal, "its actor could not be stopped", error)),
        }
    }

    async fn ask_supervisor_of<T: Send + 'static>(
        &self,
        actor: &str,
        message: impl FnOnce(String, RpcReplyPort<Result<T, RequestError>>) -> SupervisorMessage,
    ) -> Result<T, Error> {
        let unknown = || Error::not_found("actor", actor);
        let (above, name) = actor.rsplit_once('/').ok_or_else(unknown)?;
        let name = name.to_owned();
        let supervisor = match Place::from(above) {
            Place::Root => self.root.get().cloned(),
            Place::Vms => self.vms_supervisor.current(ACTOR_DEADLINE).await,
            Place::Workspaces => self.workspaces_supervisor.current(ACTOR_DEADLINE).await,
            Place::Vm(vm) => self.vm(&vm)?.supervisor.current(ACTOR_DEADLINE).await,
            Place::Connections(vm) => self.vm(&vm)?.connections.current(ACTOR_DEADLINE).await,
            _ => return Err(unknown()),
        };
        let supervisor =
            supervisor.ok_or_else(|| Error::internal(format!("the supervisor of {actor} is not there")))?;
        match ask_actor(&supervisor, actor, |reply| message(name, reply.into())).await? {
            Ok(answer) => Ok(answer),
            Err(RequestError::Unknown(_)) => Err(unknown()),
            Err(error) => Err(Error::caused(ErrorKind::Internal, format!("actor `{actor}` did not come up"), error)),
        }
    }
}
