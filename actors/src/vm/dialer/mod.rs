//! The dialling of a guest's agent, and the connection to it while there is one.

mod report;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nexus_host::{
    agent::{AgentClient, AgentError, AgentEvents},
    vsock::Endpoint,
};
use nexus_model::{ConnectionKind, ConnectionState, Direction, Health, Timestamp};
use nexus_protocol::{CONTROL_PORT, Event, Features, Role, ShutdownMode, Welcome};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{
    Power, VmContext,
    complaint::Complaint,
    connection::{AGENT, Closings},
    context::CONNECTION_BACKOFF,
    machine::MachineMessage,
    provision::provision,
    standstill,
};
use crate::{
    Engine, Error,
    ask::ACTOR_DEADLINE,
    snapshot::{ConnectionSnapshot, GuestSnapshot},
    supervisor::ChildContext,
};

/// Between two tries while the guest boots.
const BOOT_RETRY: Duration = Duration::from_millis(25);
/// From then on there is a reason why a guest that boots does not answer.
const SLOW: Duration = Duration::from_secs(10);
/// How long a guest is taken to boot.
const BOOT_TIME: Duration = Duration::from_secs(60);
/// For the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// As many heartbeats may be missed before the guest is unreachable.
const MISSES: u32 = 3;

/// How a connection was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The guest had said that it goes down.
    Orderly,
    /// It broke off, or the guest missed its heartbeats.
    Sudden,
    /// Somebody wanted it closed.
    Asked,
    /// It was never what others can use.
    Unready,
}

/// A guest that does not answer.
struct Silence {
    since: Instant,
    /// For that long it need not.
    patience: Duration,
}

/// Follows the VM's power: dials while it is on, is parked while it is off.
pub(super) struct Dialer {
    engine: Engine,
    vm: Arc<VmContext>,
    power: watch::Receiver<Power>,
    heartbeat: watch::Receiver<u64>,
    /// Changes when this machine has slept.
    slept: watch::Receiver<Duration>,
    child: ChildContext,
    socket: Option<PathBuf>,
    opened_at: Timestamp,
    /// Why it is not open, as far as that is known.
    failure: Option<String>,
    /// How bad it was said to be that nobody can use the guest, until it is said to be back.
    told: Option<Health>,
    /// The run of which it was said that its agent is too old.
    lacking: Option<u64>,
    breach: Complaint,
    silent: Complaint,
    unusable: Complaint,
}

impl Dialer {
    pub(super) fn new(engine: Engine, vm: Arc<VmContext>, child: ChildContext) -> Self {
        Self {
            power: vm.power.subscribe(),
            heartbeat: engine.heartbeat.subscribe(),
            slept: engine.slept.subscribe(),
            child,
            engine,
            vm,
            socket: None,
            opened_at: Timestamp::NEVER,
            failure: None,
            told: None,
            lacking: None,
            breach: Complaint::default(),
            silent: Complaint::default(),
            unusable: Complaint::default(),
        }
    }

    /// For ever; answers who wants the connection closed.
    pub(super) async fn run(mut self, mut closings: Closings) {
        loop {
            let power = self.power.borrow_and_update().clone();
            match power {
                Power::Off => {
                    self.socket = None;
                    self.failure = None;
                    self.told = None;
                    self.breach = Complaint::default();
                    self.silent = Complaint::default();
                    self.unusable = Complaint::default();
                    self.child.reporter.set_health(Health::Ok);
                    self.show(ConnectionState::Parked);
                    if closings.refused_during(self.power.changed()).await.is_err() {
                        return;
                    }
                }
                Power::On { run, endpoint, socket, token } => {
                    self.socket = socket;
                    let mut power = self.power.clone();
                    tokio::select! {
                        () = self.keep(run, &endpoint, token.as_deref(), &mut closings) => {}
                        _ = power.changed() => {}
                    }
                    self.vm.agent.send_replace(None);
                    self.opened_at = Timestamp::NEVER;
                }
            }
        }
    }

    /// Dials, serves the connection until it is lost, and dials again, for ever.
    async fn keep(&mut self, run: u64, endpoint: &Endpoint, token: Option<&str>, closings: &mut Closings) {
        let begun = Instant::now();
        let mut silence = Silence { since: begun, patience: self.engine.settings.heartbeat * MISSES };
        let mut known = false;
        let mut attempt = 0;
        loop {
            nexus_model::failpoint("actor.connection");
            self.show(ConnectionState::Connecting);
            if self.stands_still() {
                closings.refused_during(standstill::over(&self.engine, &self.vm)).await;
                silence.since = Instant::now();
            }
            match closings.refused_during(AgentClient::connect(endpoint, token, HANDSHAKE)).await {
                Ok((agent, welcome, events)) => {
                    known = true;
                    let opened = Instant::now();
                    let loss = self.serve(run, agent, (&welcome, events), closings).await;
                    let heartbeat = self.engine.settings.heartbeat;
                    // A guest that shakes hands only to hang up is not dialled faster for it.
                    if opened.elapsed() > heartbeat {
                        attempt = 0;
                    }
                    if !matches!(loss, Loss::Orderly | Loss::Asked) {
                        self.child.reporter.count_failure();
                    }
                    if loss != Loss::Unready {
                        let patience = if loss == Loss::Orderly { BOOT_TIME } else { heartbeat * MISSES };
                        silence = Silence { since: Instant::now(), patience };
                    } else if self.told.is_none() && silence.since.elapsed() > silence.patience {
                        self.report_unusable(run, Health::Degraded).await;
                    }
                }
                Err(error) => {
                    let is_breach = error.is_breach();
                    let why = Error::from(error).text();
                    if is_breach {
                        // Answers are no sign of a guest that boots.
                        known = true;
                        self.child.reporter.count_failure();
                        self.report_breach(&why);
                    } else {
                        debug!(NEXUS_VM = %self.vm.name, "the guest agent does not answer yet: {why}");
                    }
                    let has_answered = self.has_answered();
                    if known || has_answered || begun.elapsed() > SLOW {
                        if !known && !has_answered && begun.elapsed() > BOOT_TIME {
                            self.report_silent(&why);
                        }
                        self.failure = Some(why);
                        self.show(ConnectionState::Connecting);
                    }
                    if self.stands_still() {
                        silence.since = Instant::now();
                    } else if (has_answered || is_breach)
                        && self.told != Some(Health::Unreachable)
                        && silence.since.elapsed() > silence.patience
                    {
                        self.report_unusable(run, Health::Unreachable).await;
                    }
                }
            }
            let wait = if known || begun.elapsed() > BOOT_TIME {
                attempt += 1;
                CONNECTION_BACKOFF.delay(attempt - 1, fastrand::f64())
            } else {
                BOOT_RETRY
            };
            closings.refused_during(tokio::time::sleep(wait)).await;
        }
    }

    /// Serves one connection until it is lost.
    async fn serve(
        &mut self,
        run: u64,
        agent: AgentClient,
        (welcome, mut events): (&Welcome, AgentEvents),
        closings: &mut Closings,
    ) -> Loss {
        self.opened_at = SystemTime::now().into();
        self.vm.heard();
        self.vm.statistics.opened(run, agent.meter());
        self.slept.mark_unchanged();
        let prepared = async {
            self.refresh(run, &agent, welcome).await;
            let files = self.vm.files.borrow().clone();
            provision(&agent, welcome.boot_id.as_str(), &files).await
        };
        if let Err(problem) = closings.refused_during(prepared).await {
            self.opened_at = Timestamp::NEVER;
            // A connection that broke off may be that of a guest which boots again.
            let may_mend = self.lost(&events, true) || self.stands_still();
            self.failure = Some(problem);
            if !may_mend {
                self.report_unusable(run, Health::Degraded).await;
            }
            return Loss::Unready;
        }
        self.vm.agent.send_replace(Some(agent.clone()));
        self.failure = None;
        self.show(ConnectionState::Open);
        self.child.reporter.set_health(Health::Ok);
        self.report_answer();
        let guest = Box::new(guest(welcome, self.opened_at));
        self.tell(MachineMessage::GuestUp { run, guest }).await;
        let adoption = self.engine.clone().adopt_streams(self.vm.clone(), agent.clone());
        let _adoption = AbortOnDropHandle::new(tokio::spawn(adoption));

        let mut misses = 0;
        let mut orderly = false;
        let mut asked = None;
        self.heartbeat.mark_unchanged();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Ending { mode }) => {
                        orderly = true;
                        let reboot = mode == ShutdownMode::Reboot;
                        self.tell(MachineMessage::GuestEnding { run, reboot }).await;
                    }
                    Some(Event::Unknown) => {
                        debug!(NEXUS_VM = %self.vm.name, "the guest agent tells of what this nexusd does not know");
                    }
                    None => break,
                },
                reply = closings.next() => {
                    agent.hang_up();
                    asked = Some(reply);
                    break;
                }
                Ok(()) = self.slept.changed() => {
                    if !self.stands_still() {
                        standstill::refresh(&self.vm, &agent).await;
                    }
                }
                tick = self.heartbeat.changed() => {
                    if tick.is_err() {
                        break;
                    }
                    if self.stands_still() || self.answers(&agent).await {
                        misses = 0;
                        continue;
                    }
                    nexus_model::failpoint("actor.connection");
                    misses += 1;
                    if misses >= MISSES {
                        break;
                    }
                }
            }
        }
        self.vm.agent.send_replace(None);
        self.opened_at = Timestamp::NEVER;
        if misses >= MISSES {
            self.failure = Some(format!("it has missed {misses} heartbeats"));
            self.report_unusable(run, Health::Unreachable).await;
            return Loss::Sudden;
        }
        self.lost(&events, !(orderly || asked.is_some()));
        self.tell(MachineMessage::GuestDown { run, unusable: false }).await;
        if let Some(reply) = asked {
            self.show(ConnectionState::Connecting);
            // Whoever asked may have gone.
            let _ = reply.send(Ok(()));
            return Loss::Asked;
        }
        if orderly { Loss::Orderly } else { Loss::Sudden }
    }

    /// Whether the connection is lost. Why `matters` unless somebody meant it, or the guest does not keep to the protocol.
    fn lost(&mut self, events: &AgentEvents, matters: bool) -> bool {
        let Some(disconnect) = events.disconnect() else { return false };
        let is_breach = disconnect.is_breach();
        let why = Error::from(AgentError::Gone(disconnect)).text();
        if is_breach {
            self.report_breach(&why);
        }
        if is_breach || matters {
            self.failure = Some(why);
        }
        true
    }

    /// The guest may have stood still for as long as nobody spoke with it.
    async fn refresh(&mut self, run: u64, agent: &AgentClient, welcome: &Welcome) {
        let is_too_old = !agent.has(Features::CLOCK) && welcome.role != Role::Process;
        if is_too_old && self.lacking != Some(run) {
            self.lacking = Some(run);
            warn!(
                NEXUS_VM = %self.vm.name,
                "the guest agent {} in VM {} can't put its clock right: build its image again with a newer one",
                welcome.agent_version,
                self.vm.name,
            );
        }
        standstill::refresh(&self.vm, agent).await;
    }

    /// Whether the guest has answered in this run, be it another nexusd.
    fn has_answered(&self) -> bool {
        self.engine.board.vms().get(&self.vm.name).is_some_and(|vm| !vm.ready_duration.is_zero())
    }

    async fn answers(&self, agent: &AgentClient) -> bool {
        let answer = tokio::time::timeout(self.engine.settings.heartbeat, agent.ping()).await;
        let answers = answer.is_ok_and(|answer| answer.is_ok());
        if answers {
            self.vm.heard();
        }
        answers
    }

    fn stands_still(&self) -> bool {
        standstill::stands_still(&self.engine, &self.vm)
    }

    async fn tell(&self, message: MachineMessage) {
        if let Some(machine) = self.vm.machine.current(ACTOR_DEADLINE).await {
            let _ = machine.send_message(message);
        }
    }

    pub(super) fn show(&self, state: ConnectionState) {
        let picture = ConnectionSnapshot {
            vm: self.vm.name.clone(),
            number: AGENT,
            port: CONTROL_PORT,
            kind: ConnectionKind::Agent,
            direction: Direction::Outbound,
            state,
            owner: ConnectionSnapshot::NEXUSD.to_owned(),
            host_path: self.socket.clone(),
            opened_at: self.opened_at,
            failure: self.failure.clone(),
        };
        self.engine.board.publish_connection((self.vm.name.clone(), AGENT), picture);
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.vm.agent.send_replace(None);
    }
}

fn guest(welcome: &Welcome, connected_at: Timestamp) -> GuestSnapshot {
    let text = |text: &nexus_protocol::Text| text.as_str().to_owned();
    GuestSnapshot {
        agent_version: text(&welcome.agent_version),
        protocol_revision: welcome.revision,
        hostname: text(&welcome.hostname),
        addresses: welcome.addresses.iter().map(ToString::to_string).collect(),
        boot_id: text(&welcome.boot_id),
        os_name: text(&welcome.os_name),
        os_version: text(&welcome.os_version),
        image_metadata: welcome.metadata.iter().map(|(key, value)| (text(key), text(value))).collect(),
        features: welcome.features.words().map(str::to_owned).collect(),
        connected_at,
    }
}
