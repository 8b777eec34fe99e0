//! What ends with its caller: a job with `bind=caller`, a call whose answer only that caller waits for, and the streams
//! that only that caller got, with the command whose only ones they are.

use std::time::Duration;

use futures_util::StreamExt;
use nexus_actors::{Engine, Origin, snapshot::JobId};
use nexus_model::{ErrorKind, Name, restart::Backoff};
use tracing::{debug, info};
use zbus::{Connection, MatchRule, MessageStream, message::Type, names::BusName};

use super::options::Options;
use crate::Error;

/// How long a call goes on before its caller is watched. Most are answered by then, and cost the bus nothing.
const SETTLED: Duration = Duration::from_millis(100);

/// Between two tries to hear of a caller, or to close a stream.
const AGAIN: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: 0.0 };

/// Why nobody is there any more who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    /// The caller has left the bus.
    Now,
    /// It had left already.
    Before,
    /// This connection was lost, and with it the knowledge of who is there.
    Bus,
}

/// Waits until a call can't be answered any more, since the caller has left the bus or this connection was lost. Never,
/// where departures can't be heard of.
pub(super) async fn departure(connection: &Connection, origin: &Origin) {
    let why = match gone(connection, &origin.sender).await {
        Gone::Now | Gone::Before => "the caller left the bus",
        Gone::Bus => "the bus was lost",
    };
    info!(NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "{why}: what the caller waited for is cancelled");
}

/// Closes a stream when its owner leaves the bus, or has left it, and so kills the command that has no other. Not every
/// stream tells by itself that its client is gone: see `docs/guest-protocol.md`.
pub(super) fn close_with_owner(connection: Connection, engine: Engine, (vm, number): (Name, u32), owner: String) {
    let Some(mut picture) = engine.board().connections().watch(&(vm.clone(), number)) else { return };
    tokio::spawn(async move {
        tokio::select! {
            () = outlive(&connection, &engine, &vm, number, &owner) => {}
            // There is nothing to close once it is not shown any more.
            () = async { while picture.changed().await.is_ok() {} } => {}
        }
    });
}

async fn outlive(connection: &Connection, engine: &Engine, vm: &Name, number: u32, owner: &str) {
    match gone(connection, owner).await {
        Gone::Bus => return,
        Gone::Now => info!(
            NEXUS_VM = %vm,
            DBUS_SENDER = owner,
            "{owner} left the bus: its connection {number} to VM {vm} is closed",
        ),
        // A guest may name any owner, and as many as it likes.
        Gone::Before => {
            debug!(NEXUS_VM = %vm, DBUS_SENDER = owner, "the owner of connection {number} is not on the bus")
        }
    }
    for attempt in 0.. {
        let Err(error) = engine.close_connection(vm, number).await else { return };
        debug!(NEXUS_VM = %vm, error = error.text(), "connection {number} could not be closed");
        tokio::time::sleep(AGAIN.delay(attempt, 0.0)).await;
    }
}

async fn gone(connection: &Connection, caller: &str) -> Gone {
    if connection.unique_name().is_none() {
        // Between peers nobody tells.
        return std::future::pending().await;
    }
    tokio::time::sleep(SETTLED).await;
    for attempt in 0.. {
        match departures(connection, caller).await {
            Ok(mut departures) => {
                debug!(DBUS_SENDER = caller, "listens for the departure of {caller}");
                return if has_left(&mut departures).await { Gone::Now } else { Gone::Bus };
            }
            Err(error) if error.kind() == Some(ErrorKind::Cancelled) => return Gone::Before,
            Err(error) if !connection.is_closed() => debug!(%error, "the bus does not say when the caller leaves"),
            Err(_) => return Gone::Bus,
        }
        tokio::time::sleep(AGAIN.delay(attempt, 0.0)).await;
    }
    Gone::Bus
}

/// Waits until the caller has left the bus, or until this connection is lost, which zbus says as an error.
async fn has_left(departures: &mut MessageStream) -> bool {
    matches!(departures.next().await, Some(Ok(_)))
}

/// The signal that a caller has left the bus, which it has not yet.
async fn departures(connection: &Connection, caller: &str) -> Result<MessageStream, Error> {
    let not_here = || Error::invalid_args("option `bind` can be `caller` only on a message bus");
    let caller = BusName::try_from(caller).map_err(|_| not_here())?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(0, caller.as_str())
        .arg(2, "")
        .build()?;
    let departures = MessageStream::for_match_rule(rule, connection, None).await?;
    if !zbus::fdo::DBusProxy::new(connection).await?.name_has_owner(caller).await? {
        return Err(Error::new(ErrorKind::Cancelled, "the caller has left the bus"));
    }
    Ok(departures)
}

/// Tells when a caller has left the bus.
#[derive(Debug)]
pub(super) struct Bond {
    origin: Origin,
    departure: MessageStream,
}

impl Bond {
    /// Whether the options ask for one.
    pub(super) fn decode(options: &mut Options) -> Result<bool, Error> {
        match options.take::<String>("bind")?.as_deref() {
            None | Some("none") => Ok(false),
            Some("caller") => Ok(true),
            Some(other) => Err(Error::invalid_args(format!("`bind`: `{other}` is none of none, caller"))),
        }
    }

    /// Listens for the caller's departure. Done before the job is made, so that none goes unheard.
    pub(super) async fn with(connection: &Connection, origin: &Origin) -> Result<Self, Error> {
        Ok(Self { origin: origin.clone(), departure: departures(connection, &origin.sender).await? })
    }

    /// Cancels the job when the caller leaves before its end.
    pub(super) fn hold(self, engine: Engine, job: JobId) {
        tokio::spawn(async move {
            let Self { origin, mut departure } = self;
            let Some(mut picture) = engine.board().jobs().watch(&job) else { return };
            let ended = picture.wait_for(|job| job.state.is_final());
            tokio::select! {
                _ = ended => return,
                has_left = has_left(&mut departure) => if !has_left {
                    // It is this connection that was lost, and with it the knowledge of who is there.
                    debug!(NEXUS_JOB = job, "the bus was lost: the job is not bound any more");
                    return;
                },
            }
            info!(NEXUS_JOB = job, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "the caller left the bus: its job is cancelled");
            if let Err(error) = engine.cancel_job(job).await {
                debug!(NEXUS_JOB = job, error = error.text(), "the job could not be cancelled");
            }
        });
    }
}
