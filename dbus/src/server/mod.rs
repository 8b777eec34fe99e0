//! Serves the engine on a D-Bus connection, a bus' or a peer's.
//!
//! Two halves: the projector follows every transition in order and alone adds and removes objects and sends signals;
//! interfaces answer calls and read, without waiting, the picture that the projector has shown last. So nobody reads what
//! was not told, but what can be set, which is read as it was set. A call that changes something is answered once the
//! projector has shown the change: a client that waited for the answer never reads what was before.
//!
//! No interface has a method that takes `&mut self`, and no getter awaits: zbus would stop the whole tree for it.

mod arguments;
mod asset;
mod bond;
mod call;
mod callers;
mod connection;
mod console;
mod family;
mod find;
mod guest;
mod image;
mod job;
mod log_control;
mod manager;
mod options;
mod path;
mod picture;
mod projector;
mod quiet;
mod records;
mod served;
mod supervised;
mod supervisor;
mod tally;
mod vm;
mod workspace;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use nexus_actors::Engine;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use zbus::{Connection, fdo::ObjectManager};

pub use log_control::LogControl;

use self::{log_control::Log, manager::Manager, picture::Picture, projector::Projector, served::Served, tally::Tally};
use crate::{LOG_CONTROL, ROOT};

/// How long a call to oneself may take before another one is made.
const PING: Duration = Duration::from_millis(100);

/// What the engine does not know.
#[derive(Clone)]
pub struct ServerOptions {
    /// Version of nexusd.
    pub version: String,
    /// Its logging.
    pub log: Arc<dyn LogControl>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").field("version", &self.version).finish_non_exhaustive()
    }
}

/// An engine that is served. Dropped, it shows nothing more and closes the connection, which calls that wait for
/// something would keep open otherwise, and with it the bus name.
#[derive(Debug)]
pub struct Server {
    connection: Connection,
    tally: watch::Sender<Arc<Tally>>,
    engine: Engine,
    projector: JoinHandle<()>,
}

impl Server {
    /// Says that nexusd is up: `Manager.State` is `starting` until then.
    pub async fn started(&self) {
        self.tally.send_modify(|tally| Arc::make_mut(tally).started = true);
        self.engine.board().flushed().await;
    }

    /// Returns when nothing is shown any more, because the connection is lost or another server follows the engine.
    pub async fn ended(&mut self) {
        // The task only ends; a panic of it is in the journal, and is an end as well.
        let _ = (&mut self.projector).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.projector.abort();
        // Without a runtime nothing waits any more, either.
        if let Ok(runtime) = Handle::try_current() {
            let connection = self.connection.clone();
            runtime.spawn(async move {
                // What can't be closed is closed already.
                let _ = connection.close().await;
            });
        }
    }
}

/// Serves `engine` on `connection`. Returns when every object that there is can be called: then the bus name may be
/// requested. Follows the engine from then on, until the connection is lost; for a new connection, call this again.
///
/// # Errors
/// When the connection fails, or something is served on it already.
pub async fn serve(connection: &Connection, engine: Engine, options: ServerOptions) -> zbus::Result<Server> {
    let tally = watch::Sender::new(Arc::new(Tally::default()));
    let served = Served::new(engine.clone());
    let manager = Manager {
        engine: served.clone(),
        version: options.version.into(),
        picture: Picture::Live(engine.board().manager()),
        tally: Picture::Live(tally.subscribe()),
    };
    let objects = connection.object_server();
    objects.at(ROOT, manager.clone()).await?;
    objects.at(LOG_CONTROL, Log { engine: served, log: options.log }).await?;
    let changes = engine.board().follow();
    let mut projector = Projector::new(connection.clone(), manager, tally.clone(), changes);
    projector.populate().await?;
    // Added last, it tells of all objects at once.
    objects.at(ROOT, ObjectManager).await?;
    answers(connection).await?;
    let projector = tokio::spawn(projector.run());
    Ok(Server { connection: connection.clone(), tally, engine, projector })
}

/// Returns once calls are answered. zbus takes them in a task that it starts with the first object, and what comes before
/// that task has begun is lost without a reply: so this calls itself until it has one.
async fn answers(connection: &Connection) -> zbus::Result<()> {
    // Without a bus there is nobody to call.
    let Some(own) = connection.unique_name() else { return Ok(()) };
    loop {
        let ping = connection.call_method(Some(own), "/", Some("org.freedesktop.DBus.Peer"), "Ping", &());
        if let Ok(answer) = tokio::time::timeout(PING, ping).await {
            return answer.map(drop);
        }
    }
}

fn text(path: Option<&Path>) -> String {
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}
