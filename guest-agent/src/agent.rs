//! The agent as a whole: what its parts share, and its life from the first instruction to the last.

use std::{cell::Cell, io, path::Path, rc::Rc, sync::Arc};

use nexus_archive::Root;
use nexus_model::Id;
use nexus_protocol::{Features, Role, ShutdownMode};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_local,
};

use crate::{
    arguments::Start,
    boot_options::BootOptions,
    exec::{ExecTable, Spawner},
    files, init,
    listener::{HybridListener, MAX_CONNECTIONS, serve_vsock},
    mcp::Tools,
    opening::MAX_SPARES,
    power,
    reaper::Reaper,
    session::Sessions,
    signals,
    streams::Streams,
    terminal::Terminals,
    tickets::Tickets,
};

/// What the agent's parts share.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) role: Role,
    /// What it can beyond what every agent of the revision can.
    pub(crate) features: Features,
    pub(crate) options: BootOptions,
    /// Names this run of the agent.
    pub(crate) run_id: Id,
    pub(crate) spawner: Spawner,
    pub(crate) execs: ExecTable,
    pub(crate) terminals: Terminals,
    pub(crate) sessions: Sessions,
    pub(crate) tickets: Tickets,
    pub(crate) streams: Streams,
    pub(crate) tools: Tools,
    /// How many more connections may be served.
    pub(crate) connections: Arc<Semaphore>,
    /// How many more may be spare.
    pub(crate) spares: Semaphore,
    pub(crate) copies: files::Seats,
    /// Where the files are.
    pub(crate) root: Arc<Root>,
    ending: Cell<Option<ShutdownMode>>,
    demands: mpsc::UnboundedSender<Demand>,
}

/// Why the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// The guest is to go down.
    Shutdown(ShutdownMode),
    /// The guest's init wants this service to end, and why is to be found out.
    Leave,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("cannot get random numbers")]
    Random(#[source] getrandom::Error),
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    #[error("cannot open the folder of files")]
    Root(#[source] io::Error),
}

impl AgentError {
    /// The cause, for a line on the console.
    pub(crate) fn source_text(&self) -> String {
        std::error::Error::source(self).map(ToString::to_string).unwrap_or_default()
    }
}

impl Agent {
    /// What the guest is about to do, once it is.
    pub(crate) fn ending(&self) -> Option<ShutdownMode> {
        self.ending.get()
    }

    /// Has the agent end, in its own time.
    pub(crate) fn demand(&self, demand: Demand) {
        if let Demand::Shutdown(mode) = demand {
            self.ending.set(Some(mode));
        }
        // The receiver lives as long as the agent.
        let _ = self.demands.send(demand);
    }
}

/// A mere process has no clock of its own.
fn features(start: &Start) -> Features {
    let has = |word: &&str| !start.without.contains(word) && (*word != Features::CLOCK || start.role != Role::Process);
    Features::OF_AGENTS.into_iter().filter(has).collect()
}

/// Lives until the guest, or the agent alone, is to end.
pub(crate) async fn run(start: Start) -> Result<(), AgentError> {
    let options = match start.role {
        Role::Init => init::prepare(),
        Role::Service => BootOptions::of_this_boot(),
        Role::Process => BootOptions::default(),
    };
    let features = features(&start);
    let run_id = Id::random().map_err(AgentError::Random)?;
    // A mere process makes its folder with its socket.
    let hybrid = start.folder.as_deref().map(HybridListener::bind).transpose().map_err(AgentError::Listen)?;
    let root = Root::open(start.folder.as_deref().unwrap_or(Path::new("/"))).map_err(AgentError::Root)?;
    let root = Arc::new(root);
    let reaper = Rc::new(Reaper::start().map_err(AgentError::Signals)?);
    let (demands, mut demanded) = mpsc::unbounded_channel();
    let agent = Rc::new(Agent {
        role: start.role,
        spares: Semaphore::new(if features.has(Features::SPARES) { MAX_SPARES } else { 0 }),
        features,
        options,
        run_id,
        spawner: Spawner::new(start.role, run_id, reaper),
        execs: ExecTable::new().map_err(AgentError::Random)?,
        terminals: Terminals::new(start.folder.is_none()),
        sessions: Sessions::default(),
        tickets: Tickets::default(),
        streams: Streams::default(),
        tools: Tools::new(Arc::clone(&root)),
        copies: files::Seats::default(),
        root,
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        ending: Cell::new(None),
        demands,
    });
    signals::listen(&agent).map_err(AgentError::Signals)?;
    match hybrid {
        Some(listener) => {
            spawn_local(listener.serve(Rc::clone(&agent)));
        }
        None => {
            spawn_local(serve_vsock(Rc::clone(&agent)));
        }
    }
    while let Some(demand) = demanded.recv().await {
        if power::end(&agent, demand).await {
            break;
        }
    }
    Ok(())
}
