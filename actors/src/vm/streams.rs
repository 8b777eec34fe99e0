//! The streams that were handed to clients: each is a connection of its VM, shown until it ends.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

use nexus_host::agent::AgentClient;
use nexus_model::{ConnectionKind, Timestamp};
use nexus_protocol::{
    BULK_PORT, Features, Label, STREAM_PORT, StreamInfo, StreamKind, StreamList, TERMINAL_PORTS, TOOLS_PORT,
};
use tracing::{debug, warn};

use super::{VmContext, machine::MachineMessage, stream};
use crate::{Engine, Error};

/// A stream that is a connection of its VM.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The connection's number within its VM.
    pub(super) number: u32,
    pub(super) seen: Seen,
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The run of the agent that it belongs to, and its number there.
    pub(super) run_id: String,
    pub(super) stream: u64,
    pub(super) port: u32,
    pub(super) kind: ConnectionKind,
    pub(super) owner: String,
    pub(super) host_path: Option<PathBuf>,
    pub(super) opened_at: Timestamp,
}

/// The streams of a VM that are open. They outlive their actors, whose faults are no end of a stream.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<BTreeMap<u32, Arc<Stream>>>);

impl Streams {
    fn get(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of one, for which `next` has a number, unless it is known, or there are more than an agent may have.
    fn add(&self, seen: Seen, next: impl FnOnce() -> Option<u32>) -> Option<Arc<Stream>> {
        let mut streams = self.get();
        let is_known = |other: &Arc<Stream>| other.seen.stream == seen.stream && other.seen.run_id == seen.run_id;
        if streams.len() >= StreamList::MAX || streams.values().any(is_known) {
            return None;
        }
        let stream = Arc::new(Stream { number: next()?, seen });
        streams.insert(stream.number, Arc::clone(&stream));
        Some(stream)
    }

    pub(super) fn remove(&self, number: u32) -> bool {
        self.get().remove(&number).is_some()
    }

    /// The stream with that connection's number.
    pub(super) fn find(&self, number: u32) -> Option<Arc<Stream>> {
        self.get().get(&number).cloned()
    }

    /// All of them, in the order in which they became known.
    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        self.get().values().cloned().collect()
    }
}

impl Engine {
    /// Shows a stream that was opened for a client, if the agent knows more of it.
    pub(super) async fn handed_over(
        &self,
        vm: &Arc<VmContext>,
        agent: &AgentClient,
        (kind, port): (ConnectionKind, u32),
        owner: &str,
        stream: Option<u64>,
    ) {
        let Some(stream) = stream.filter(|_| agent.has(Features::STREAMS)) else { return };
        let (run_id, owner) = (agent.run_id().to_owned(), owner.to_owned());
        let (host_path, opened_at) = (vm.socket(), SystemTime::now().into());
        self.show_stream(vm, Seen { run_id, stream, port, kind, owner, host_path, opened_at }).await;
    }

    /// Shows the streams that an agent has open and that nothing is known of: those that another nexusd handed over.
    pub(super) async fn adopt_streams(self, vm: Arc<VmContext>, agent: AgentClient) {
        if !agent.has(Features::STREAMS) {
            return;
        }
        let streams = match agent.list_streams().await {
            Ok(streams) => streams,
            Err(error) => {
                let why = Error::from(error).text();
                return debug!(NEXUS_VM = %vm.name, "the guest agent does not tell its streams: {why}");
            }
        };
        for info in streams {
            let Some(kind) = plausible(&info) else { continue };
            let age = Duration::from_micros(info.age_us);
            let opened_at = SystemTime::now().checked_sub(age).map_or(Timestamp::NEVER, Timestamp::from);
            let owner = info.label.as_ref().map(Label::as_str).filter(|label| is_unique_name(label));
            let owner = owner.unwrap_or_default().to_owned();
            let (run_id, host_path) = (agent.run_id().to_owned(), vm.socket());
            let StreamInfo { stream, port, .. } = info;
            self.show_stream(&vm, Seen { run_id, stream, port, kind, owner, host_path, opened_at }).await;
        }
    }

    async fn show_stream(&self, vm: &Arc<VmContext>, seen: Seen) {
        let next = || {
            let next = self.next_stream.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| next.checked_add(1));
            next.inspect_err(|_| warn!("there are no numbers left for connections")).ok()
        };
        let Some(stream) = vm.streams.add(seen, next) else { return };
        if let Err(error) = self.start_child(&vm.connections, stream::child_spec(self, vm, &stream)).await {
            // Those that are there when the supervisor comes back are started by it.
            debug!(NEXUS_VM = %vm.name, "the actor of connection {} is not up: {}", stream.number, error.text());
        }
        self.tell_connections(vm);
    }

    /// Shows a stream no more.
    pub(super) fn forget_stream(&self, vm: &VmContext, number: u32) {
        vm.streams.remove(number);
        self.board.withdraw_connection(&(vm.name.clone(), number));
        self.tell_connections(vm);
    }

    /// Has the machine say which connections there are. One that is not up says so anyway when it is.
    fn tell_connections(&self, vm: &VmContext) {
        if let Some(machine) = vm.machine.now() {
            let _ = machine.send_message(MachineMessage::ConnectionsChanged);
        }
    }
}

/// What a stream of the agent's list is, if it can be.
fn plausible(info: &StreamInfo) -> Option<ConnectionKind> {
    match info.kind {
        StreamKind::Stdio if info.port == STREAM_PORT => Some(ConnectionKind::Stdio),
        StreamKind::Tools if info.port == TOOLS_PORT => Some(ConnectionKind::Tools),
        StreamKind::Copy if info.port == BULK_PORT => Some(ConnectionKind::Bulk),
        StreamKind::Terminal if TERMINAL_PORTS.contains(&info.port) => Some(ConnectionKind::Terminal),
        _ => None,
    }
}

/// Whether that could be a client's name on the bus; the guest may say anything.
fn is_unique_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    name.strip_prefix(':').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain))
}

/// How any stream's actor is started.
#[cfg(test)]
pub(crate) fn any(engine: &Engine, vm: &Arc<VmContext>) -> crate::supervisor::ChildSpec {
    stream::child_spec(engine, vm, &Arc::new(Stream { number: super::FIRST_STREAM, seen: tests::seen("", 1) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn seen(run_id: &str, stream: u64) -> Seen {
        Seen {
            run_id: run_id.to_owned(),
            stream,
            port: TOOLS_PORT,
            kind: ConnectionKind::Tools,
            owner: String::new(),
            host_path: None,
            opened_at: Timestamp::NEVER,
        }
    }

    #[test]
    fn each_stream_is_there_once_and_they_are_few() {
        let streams = Streams::default();
        let unused = || panic!("a number is taken for nothing");
        assert!(streams.add(seen("a", 1), || None).is_none(), "there are no numbers left");
        assert!(streams.add(seen("a", 1), || Some(2)).is_some());
        assert!(streams.add(seen("a", 1), unused).is_none(), "it is the same");
        assert!(streams.add(seen("b", 1), || Some(4)).is_some(), "it is another run's");
        for number in 5..3 + u32::try_from(StreamList::MAX).unwrap() {
            assert!(streams.add(seen("a", u64::from(number)), || Some(number)).is_some());
        }
        assert!(streams.add(seen("c", 1), unused).is_none(), "they are too many");
        assert!(streams.remove(2) && !streams.remove(2) && streams.find(4).is_some());
    }

    #[test]
    fn what_a_guest_says_of_its_streams_must_be_possible() {
        let info = |kind, port| StreamInfo { stream: 1, kind, port, label: None, age_us: 0, from_host: 0, to_host: 0 };
        assert_eq!(plausible(&info(StreamKind::Terminal, 399)), Some(ConnectionKind::Terminal));
        assert_eq!(plausible(&info(StreamKind::Copy, 102)), Some(ConnectionKind::Bulk));
        assert_eq!(plausible(&info(StreamKind::Stdio, 101)), Some(ConnectionKind::Stdio));
        for (kind, port) in [(StreamKind::Tools, 100), (StreamKind::Terminal, 400), (StreamKind::Unknown, 200)] {
            assert_eq!(plausible(&info(kind, port)), None);
        }
        assert!(is_unique_name(":1.42"));
        for name in ["", ":", "nexusd", "org.workfort.Nexus1", ":1.4 2", ":1/2"] {
            assert!(!is_unique_name(name), "{name}");
        }
    }
}
