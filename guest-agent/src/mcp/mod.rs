//! The Model Context Protocol, in which the agent is the server: tools for whoever works with the guest.
//!
//! A connection is a session, in lines of JSON, behind a frame with a ticket of the control connection.

mod command;
mod file;
mod output;
mod tool;

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Instant};

use nexus_archive::Root;
use nexus_mcp::{AtEnd, Call, Server};
use nexus_protocol::{Failure, FailureKind, MAX_TOOLS_LINE_BYTES, Purpose, Ticket, mcp::BoundedLines};
use tokio::{
    io::split,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use self::tool::Tool;
use crate::{
    agent::Agent,
    log::say,
    opening::{self, Opening},
    stream::Stream,
    streams::{Metered, Open},
};

/// As many sessions at a time.
const MAX_SESSIONS: usize = 32;

/// As many requests of a session may be under way.
const MAX_REQUESTS: usize = 32;

const INSTRUCTIONS: &str = "Files and commands of one virtual machine. Everything happens inside it, as its root user \
unless another one is named; nothing is kept between two commands but the machine itself.";

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Tools {
    seats: Arc<Semaphore>,
    root: Arc<Root>,
}

impl Tools {
    /// Tools whose files are below `root`.
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self { seats: Arc::new(Semaphore::new(MAX_SESSIONS)), root }
    }

    fn sit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let full = |_| Failure::new(FailureKind::Exhausted, format!("{MAX_SESSIONS} MCP sessions are open already"));
        Arc::clone(&self.seats).try_acquire_owned().map_err(full)
    }
}

/// Lets the stream show its ticket, and serves a session on it until its end.
pub(crate) async fn serve(stream: Stream, agent: Rc<Agent>) {
    if let Opening::Open(stream, (_seat, env, open)) =
        opening::open(stream, &agent, |ticket| admit(&ticket, &agent)).await
    {
        session(stream, &agent, env, open).await;
    }
}

fn admit(ticket: &Ticket, agent: &Agent) -> Result<(OwnedSemaphorePermit, BTreeMap<String, String>, Open), Failure> {
    let (Purpose::Tools { env }, stream) = agent.tickets.claim(ticket, Instant::now())? else {
        return Err(Failure::new(FailureKind::Unauthorized, "the stream is for something else"));
    };
    Ok((agent.tools.sit()?, env, agent.streams.enter(stream)?))
}

/// Serves a session until the host ends it, on whichever way. What it has under way ends at once then, with all that it
/// started.
async fn session(stream: Stream, agent: &Rc<Agent>, env: BTreeMap<String, String>, open: Open) {
    let (reading, writing) = split(Metered::new(stream, Arc::clone(&open.meter)));
    let gone = CancellationToken::new();
    // Of a line that is too long the SDK would say nothing, and its sender would wait for ever: here the stream ends.
    let lines = BoundedLines::new(reading, MAX_TOOLS_LINE_BYTES);
    let server = Server {
        name: "nexus-guest-agent",
        instructions: INSTRUCTIONS,
        max_requests: MAX_REQUESTS,
        at_end: AtEnd::GiveUp(gone.clone()),
    };
    let (agent, env) = (Rc::clone(agent), Rc::new(env));
    let act = move |call: Call<Tool>| {
        let (agent, env) = (Rc::clone(&agent), Rc::clone(&env));
        async move { tool::call(call, &agent, &env).await }
    };
    tokio::select! {
        result = server.serve(lines, writing, act) => {
            if let Err(error) = result {
                say!("an MCP session has not begun: {error}");
            }
        }
        () = gone.cancelled() => {}
        // The SDK has the stream.
        () = open.closing.cancelled() => gone.cancel(),
    }
}
