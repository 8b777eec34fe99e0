//! What keeps connections of one kind there for as long as the agent answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use nexus_host::agent::{AgentClient, Spare, SpareEnd, SpareKind};
use nexus_model::{ConnectionState, Direction, Health, Timestamp, restart::Backoff};
use nexus_protocol::{BULK_PORT, STREAM_PORT, TERMINAL_PORTS, TOOLS_PORT};
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, warn};

use super::SpareContext;
use crate::{
    Engine, Error,
    ask::Reply,
    snapshot::ConnectionSnapshot,
    supervisor::ChildContext,
    vm::{Power, VmContext, complaint::Complaint, standstill},
};

/// Between two tries.
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10), jitter: 0.2 };
/// As many tries in a row may fail before that is worth anybody's attention.
const TRIES: u32 = 5;

pub(super) struct Keeper {
    engine: Engine,
    vm: Arc<VmContext>,
    spare: Arc<SpareContext>,
    child: ChildContext,
    /// Who wants it closed.
    to_close: mpsc::UnboundedReceiver<Reply<()>>,
    open: Arc<AtomicBool>,
    port: u32,
    opened_at: Timestamp,
    /// Why it is not open, as far as that is known.
    failure: Option<String>,
    complaint: Complaint,
}

impl Keeper {
    pub(super) fn new(
        engine: Engine,
        vm: Arc<VmContext>,
        spare: Arc<SpareContext>,
        child: ChildContext,
        to_close: mpsc::UnboundedReceiver<Reply<()>>,
    ) -> Self {
        let port = match spare.kind {
            SpareKind::Tools => TOOLS_PORT,
            SpareKind::Terminal => *TERMINAL_PORTS.start(),
            SpareKind::Bulk => BULK_PORT,
            SpareKind::Stdio => STREAM_PORT,
        };
        Self {
            engine,
            vm,
            spare,
            child,
            to_close,
            open: Arc::default(),
            port,
            opened_at: Timestamp::NEVER,
            failure: None,
            complaint: Complaint::default(),
        }
    }

    /// Asks later whether it is open.
    pub(super) fn is_open(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let open = self.open.clone();
        Box::new(move || open.load(Ordering::Relaxed))
    }

    pub(super) async fn run(mut self) {
        let mut agents = self.vm.agent.subscribe();
        loop {
            let agent = agents.borrow_and_update().clone();
            self.lose(None);
            self.child.reporter.set_health(Health::Ok);
            let changed = match agent {
                Some(agent) if agent.takes_spares(self.spare.kind) => tokio::select! {
                    () = self.keep(&agent) => return,
                    changed = agents.changed() => changed,
                },
                agent => {
                    self.failure = agent.map(|_| "the guest agent takes none ahead: see its `Features`".to_owned());
                    self.show(ConnectionState::Parked);
                    agents.changed().await
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Opens it, keeps it until somebody has it or it is lost, and opens it again, for ever.
    async fn keep(&mut self, agent: &AgentClient) {
        let mut failed = 0;
        loop {
            nexus_model::failpoint("actor.spare");
            if !self.open.load(Ordering::Relaxed) {
                self.show(ConnectionState::Connecting);
            }
            standstill::over(&self.engine, &self.vm).await;
            match agent.open_spare(self.spare.kind).await {
                Ok(spare) => {
                    let begun = Instant::now();
                    self.gain(&spare);
                    tokio::select! {
                        end = spare.keep() => match end {
                            SpareEnd::Taken | SpareEnd::Moved => {
                                failed = 0;
                                continue;
                            }
                            SpareEnd::Lost => self.lose(Some("it was closed on the guest's side".to_owned())),
                        },
                        Some(reply) = self.to_close.recv() => {
                            self.lose(None);
                            // Whoever asked may have gone.
                            let _ = reply.send(Ok(()));
                            continue;
                        }
                    }
                    // A guest that takes it only to hang up is not dialled faster for it.
                    if begun.elapsed() > self.engine.settings.heartbeat {
                        failed = 0;
                    }
                }
                Err(error) => self.lose(Some(Error::from(error).text())),
            }
            self.child.reporter.count_failure();
            self.show(ConnectionState::Connecting);
            failed += 1;
            if failed >= TRIES {
                self.complain();
            }
            tokio::time::sleep(BACKOFF.delay(failed - 1, fastrand::f64())).await;
        }
    }

    fn gain(&mut self, spare: &Spare) {
        let is_other = std::mem::replace(&mut self.port, spare.port()) != spare.port();
        let was_open = self.open.swap(true, Ordering::Relaxed);
        if !was_open {
            self.opened_at = SystemTime::now().into();
            self.failure = None;
            if let Power::On { run, .. } = &*self.vm.power.borrow() {
                self.spare.statistics.opened(*run, Arc::default());
            }
            self.child.reporter.set_health(Health::Ok);
        }
        if is_other || !was_open {
            self.show(ConnectionState::Open);
        }
    }

    fn lose(&mut self, why: Option<String>) {
        self.open.store(false, Ordering::Relaxed);
        self.opened_at = Timestamp::NEVER;
        self.failure = why;
    }

    /// The guest answers, and yet this does not work.
    fn complain(&mut self) {
        self.child.reporter.set_health(Health::Degraded);
        let why = self.failure.clone().unwrap_or_default();
        let (name, port) = (&self.vm.name, self.port);
        if self.complaint.is_news(&why) {
            warn!(
                NEXUS_VM = %name,
                NEXUS_ACTOR = self.child.path,
                NEXUS_GENERATION = self.child.generation,
                "nothing can be kept open to port {port} in the guest of VM {name}: {why}",
            );
        } else {
            debug!(NEXUS_VM = %name, "nothing can be kept open to port {port}: {why}");
        }
    }

    pub(super) fn show(&self, state: ConnectionState) {
        let key = (self.vm.name.clone(), self.spare.number());
        let picture = ConnectionSnapshot {
            vm: self.vm.name.clone(),
            number: self.spare.number(),
            port: self.port,
            kind: self.spare.shown_as(),
            direction: Direction::Outbound,
            state,
            owner: ConnectionSnapshot::NEXUSD.to_owned(),
            host_path: self.vm.socket(),
            opened_at: self.opened_at,
            failure: self.failure.clone(),
        };
        self.engine.board.publish_connection(key, picture);
    }
}
