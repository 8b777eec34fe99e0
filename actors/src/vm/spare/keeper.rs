//! What keeps a spare connection for as long as the agent answers.

use std::{pin::pin, sync::Arc, time::SystemTime};

use nexus_host::agent::{AgentClient, Spare, SpareEnd};
use nexus_model::{ConnectionState, Direction, Health, Timestamp};
use nexus_protocol::TERMINAL_PORTS;
use tracing::{debug, warn};

use super::SpareContext;
use crate::{
    Engine, Error,
    ask::Reply,
    snapshot::ConnectionSnapshot,
    supervisor::ChildContext,
    vm::{Power, VmContext, complaint::Complaint, connection::Closings, context::CONNECTION_BACKOFF, standstill},
};

/// As many tries in a row may fail before that is worth anybody's attention.
const TRIES: u32 = 5;

pub(super) struct Keeper {
    engine: Engine,
    vm: Arc<VmContext>,
    spare: Arc<SpareContext>,
    child: ChildContext,
    closings: Closings,
    port: u32,
    opened_at: Timestamp,
    /// Why it is not open, as far as that is known.
    failure: Option<String>,
    /// As many tries in a row have failed.
    failed: u32,
    complaint: Complaint,
}

impl Keeper {
    pub(super) fn new(
        engine: Engine,
        vm: Arc<VmContext>,
        spare: Arc<SpareContext>,
        child: ChildContext,
        closings: Closings,
    ) -> Self {
        let port = spare.kind.port().unwrap_or(*TERMINAL_PORTS.start());
        Self {
            engine,
            vm,
            spare,
            child,
            closings,
            port,
            opened_at: Timestamp::NEVER,
            failure: None,
            failed: 0,
            complaint: Complaint::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut agents = self.vm.agent.subscribe();
        loop {
            let agent = agents.borrow_and_update().clone();
            self.lose(None);
            self.prove();
            let lacking = agent.as_ref().and_then(|agent| agent.takes_spares(self.spare.kind).err());
            let changed = match agent {
                Some(agent) if lacking.is_none() => tokio::select! {
                    () = self.keep(&agent) => return,
                    changed = agents.changed() => changed,
                },
                _ => {
                    self.failure = lacking.map(|error| Error::from(error).text());
                    self.show(ConnectionState::Parked);
                    self.closings.refused_during(agents.changed()).await
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Opens it, keeps it until somebody has it or it is lost, and opens it again, for ever.
    async fn keep(&mut self, agent: &AgentClient) {
        loop {
            nexus_model::failpoint("actor.spare");
            let Some(port) = agent.spare_port(self.spare.kind) else {
                self.prove();
                self.lose(Some("the guest has told of no port that is left for another terminal".to_owned()));
                self.show(ConnectionState::Connecting);
                self.closings.refused_during(agent.wait_terminal_port()).await;
                continue;
            };
            if !self.is_open() {
                self.show(ConnectionState::Connecting);
            }
            let opening = async {
                standstill::over(&self.engine, &self.vm).await;
                agent.open_spare(self.spare.kind, port).await
            };
            match self.closings.refused_during(opening).await {
                Ok(spare) => {
                    self.gain(&spare);
                    match self.hold(spare).await {
                        Ok(SpareEnd::Taken | SpareEnd::Moved) => {
                            self.prove();
                            continue;
                        }
                        Ok(SpareEnd::Lost) => self.lose(Some("it was closed on the guest's side".to_owned())),
                        Err(closing) => {
                            self.lose(None);
                            self.show(ConnectionState::Connecting);
                            // Whoever asked may have gone.
                            let _ = closing.send(Ok(()));
                            continue;
                        }
                    }
                }
                Err(error) => self.lose(Some(Error::from(error).text())),
            }
            self.show(ConnectionState::Connecting);
            let wait = CONNECTION_BACKOFF.delay(self.failed, fastrand::f64());
            self.closings.refused_during(tokio::time::sleep(wait)).await;
            // It is no failure that it went with the agent.
            self.child.reporter.count_failure();
            self.failed += 1;
            if self.failed >= TRIES {
                self.complain();
            }
        }
    }

    /// Until its end, or somebody wants it closed. A guest that takes it only to hang up proves nothing.
    async fn hold(&mut self, spare: Spare) -> Result<SpareEnd, Reply<()>> {
        let mut kept = pin!(spare.keep());
        let mut proof = pin!(tokio::time::sleep(self.engine.settings.heartbeat));
        let mut is_proven = self.failed == 0;
        loop {
            tokio::select! {
                end = &mut kept => return Ok(end),
                () = &mut proof, if !is_proven => {
                    is_proven = true;
                    self.prove();
                }
                closing = self.closings.next() => return Err(closing),
            }
        }
    }

    const fn is_open(&self) -> bool {
        !self.opened_at.is_never()
    }

    fn gain(&mut self, spare: &Spare) {
        let is_other = std::mem::replace(&mut self.port, spare.port()) != spare.port();
        let was_open = self.is_open();
        if !was_open {
            self.opened_at = SystemTime::now().into();
            self.failure = None;
            if let Power::On { run, .. } = &*self.vm.power.borrow() {
                self.spare.statistics.opened(*run, Arc::default());
            }
        }
        if is_other || !was_open {
            self.show(ConnectionState::Open);
        }
    }

    fn lose(&mut self, why: Option<String>) {
        self.opened_at = Timestamp::NEVER;
        self.failure = why;
    }

    /// It works, or need not.
    fn prove(&mut self) {
        self.failed = 0;
        self.complaint = Complaint::default();
        self.child.reporter.set_health(Health::Ok);
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
