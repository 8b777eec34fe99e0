//! The actor of the bus.
//!
//! Owns the connection to the session bus and what is served on it. Supervised by the root, as its last child, so that a
//! crash of it never touches a VM. When the bus goes away it connects again for as long as it takes, and shows everything
//! anew. Lost is only who was waiting for an answer.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use nexus_actors::{
    BusChild, Engine,
    supervisor::{ChildContext, ChildSpec},
};
use nexus_dbus::{
    SERVICE,
    server::{LogControl, ServerOptions, serve},
};
use nexus_model::restart::Backoff;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    runtime::Handle,
    sync::{Mutex, oneshot},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use zbus::{
    Address, Connection,
    connection::Builder,
    fdo::{DBusProxy, RequestNameFlags},
    names::BusName,
};

/// How long after the start the tree has to be populated. After that the name is taken all the same: a VM that is slow to
/// be looked at must not keep all the others from the bus.
const POPULATE: Duration = Duration::from_secs(5);

/// How long a nexusd may be gone before the bus has noticed.
const FAREWELL: Duration = Duration::from_secs(1);

const RECONNECT: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10), jitter: 0.2 };

/// How the first try to take the name ended.
pub(crate) enum BusEnd {
    /// It is ours.
    Named,
    /// It can't be.
    Refused(anyhow::Error),
}

/// There is no bus to be on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// No session bus.
    #[error(
        "cannot reach the session bus: start nexusd from your login session (`systemctl --user start nexus.service`), or on \
         a bus of its own (`dbus-run-session -- nexusd`)"
    )]
    Unreachable(#[source] zbus::Error),
    /// Somebody else has the name.
    #[error("another nexusd is on this bus already: `nexusctl status` asks it; stop it before you start this one")]
    NameTaken,
    /// The bus does not work.
    #[error("the session bus failed")]
    Failed(#[source] zbus::Error),
}

/// Where the session bus is.
///
/// # Errors
/// When the environment names a place that can't be one.
pub(crate) fn address() -> Result<Address, BusError> {
    Address::session().map_err(BusError::Unreachable)
}

/// Connects to the session bus.
///
/// # Errors
/// When there is none.
pub(crate) async fn connect() -> Result<Connection, BusError> {
    Builder::address(address()?).build().await.map_err(BusError::Unreachable)
}

/// Connects to the session bus to become its nexusd. The name is taken later, when there is something to show. One that
/// has just ended may have it still, for as long as the bus takes to notice.
///
/// # Errors
/// When there is no bus, or it has a nexusd.
pub(crate) async fn join() -> Result<Connection, BusError> {
    let connection = connect().await?;
    if is_free(&connection).await.map_err(BusError::Failed)? { Ok(connection) } else { Err(BusError::NameTaken) }
}

/// Whether nobody has the name, or gives it up in time.
async fn is_free(connection: &Connection) -> zbus::Result<bool> {
    let bus = DBusProxy::new(connection).await?;
    let mut changes = bus.receive_name_owner_changed_with_args(&[(0, SERVICE)]).await?;
    if !bus.name_has_owner(BusName::try_from(SERVICE)?).await? {
        return Ok(true);
    }
    let given_up = async {
        while let Some(change) = changes.next().await {
            if change.args().is_ok_and(|change| change.new_owner().is_none()) {
                break;
            }
        }
    };
    // That alone is timed: a bus that takes long to answer has no other nexusd for that.
    Ok(tokio::time::timeout(FAREWELL, given_up).await.is_ok())
}

/// The actor as a child of the root. The first incarnation takes `connection`; `named` is told once how that went.
/// Whatever it does on the bus it does in `runtime`, where `connection` is from.
pub(crate) fn child(
    connection: Connection,
    log: Arc<dyn LogControl>,
    named: oneshot::Sender<BusEnd>,
    runtime: &Handle,
) -> BusChild {
    let runtime = runtime.clone();
    Box::new(move |engine| {
        let first = Arc::new(Mutex::new((Some(connection), Some(named))));
        ChildSpec::new("bus", move |child: ChildContext| {
            let presence = Presence { engine: engine.clone(), log: log.clone(), first: first.clone() };
            let runtime = runtime.clone();
            async move { child.clone().spawn(BusActor, Arguments { presence, runtime, child }).await }
        })
    })
}

struct BusActor;

struct Arguments {
    presence: Presence,
    runtime: Handle,
    child: ChildContext,
}

struct State {
    _task: AbortOnDropHandle<()>,
    _child: ChildContext,
}

/// What the bus' actor is told, by its own task.
enum BusMessage {
    /// The task has ended, which it never does by itself.
    TaskEnded,
}

impl Actor for BusActor {
    type Msg = BusMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<BusMessage>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let lease = arguments.child.lease.clone();
        let presence = AbortOnDropHandle::new(arguments.runtime.spawn(arguments.presence.keep()));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _lease = lease;
            let _ = presence.await;
            let _ = myself.send_message(BusMessage::TaskEnded);
        }));
        Ok(State { _task: task, _child: arguments.child })
    }

    async fn handle(
        &self,
        _myself: ActorRef<BusMessage>,
        message: BusMessage,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BusMessage::TaskEnded => Err("the task of the bus has ended".into()),
        }
    }
}

/// The first connection, and who waits for its outcome. Taken once.
type First = Arc<Mutex<(Option<Connection>, Option<oneshot::Sender<BusEnd>>)>>;

/// Being on the bus.
struct Presence {
    engine: Engine,
    log: Arc<dyn LogControl>,
    first: First,
}

impl Presence {
    /// Is on the bus for ever.
    async fn keep(self) {
        let mut attempt = 0;
        loop {
            match self.appear().await {
                Ok(()) => {
                    warn!("the session bus is gone; VMs run on, and Nexus connects again");
                    attempt = 0;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    warn!("Nexus is not on the bus: {error:#}");
                    if let Some(named) = self.first.lock().await.1.take() {
                        let _ = named.send(BusEnd::Refused(error));
                    }
                }
            }
            tokio::time::sleep(RECONNECT.delay(attempt, fastrand::f64())).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Serves everything, takes the name, and returns when the connection is lost.
    async fn appear(&self) -> Result<(), BusError> {
        let given = self.first.lock().await.0.take();
        let connection = match given {
            Some(connection) => connection,
            None => connect().await?,
        };
        if !self.engine.ready(POPULATE).await {
            warn!("not everything was looked at within {} s: it follows as it comes", POPULATE.as_secs());
        }
        let options = ServerOptions { version: env!("CARGO_PKG_VERSION").to_owned(), log: self.log.clone() };
        nexus_model::failpoint("actor.bus");
        let mut server = serve(&connection, self.engine.clone(), options).await.map_err(BusError::Failed)?;
        // zbus' own default takes the name from whoever has it, and lets the next one take it from us.
        let named = connection.request_name_with_flags(SERVICE, RequestNameFlags::DO_NOT_QUEUE).await;
        named.map_err(|error| match error {
            zbus::Error::NameTaken => BusError::NameTaken,
            other => BusError::Failed(other),
        })?;
        server.started().await;
        info!("{SERVICE} is on the bus");
        if let Some(named) = self.first.lock().await.1.take() {
            let _ = named.send(BusEnd::Named);
        }
        tokio::select! {
            () = connection.closed() => {}
            () = server.ended() => {}
        }
        Ok(())
    }
}
