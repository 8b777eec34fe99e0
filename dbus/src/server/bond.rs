//! What ends with its caller: a job with `bind=caller`, a call whose answer only that caller waits for, and a command whose
//! streams only that caller got.

use std::time::Duration;

use futures_util::StreamExt;
use nexus_actors::{Engine, Origin, snapshot::JobId};
use nexus_model::{ErrorKind, Name};
use nix::sys::signal::Signal;
use tracing::{debug, info};
use zbus::{Connection, MatchRule, MessageStream, message::Type, names::BusName};

use super::options::Options;
use crate::Error;

/// How long a call goes on before its caller is watched. Most are answered by then, and cost the bus nothing.
const SETTLED: Duration = Duration::from_millis(100);

/// How long after a guest could not be reached it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why nobody is there any more who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    /// The caller has left the bus.
    Caller,
    /// This connection was lost, and with it the knowledge of who is there.
    Bus,
}

/// Waits until a call can't be answered any more, since the caller has left the bus or this connection was lost. Never,
/// where departures can't be heard of.
pub(super) async fn departure(connection: &Connection, origin: &Origin) {
    gone(connection, origin).await;
    info!(NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "the caller left the bus: what it waited for is cancelled");
}

/// Kills a command with all that it started when its caller leaves the bus before its end. Its streams alone don't tell
/// that of every client: see `docs/guest-protocol.md`.
pub(super) fn tie(connection: Connection, origin: Origin, engine: Engine, vm: Name, exec: u64) {
    tokio::spawn(async move {
        let left = tokio::select! {
            _ = engine.guest_wait_exec(&vm, exec) => false,
            gone = gone(&connection, &origin) => gone == Gone::Caller,
        };
        if !left {
            return;
        }
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "the caller left the bus: command {exec} in VM {vm} is killed");
        while let Err(error) = engine.guest_signal_exec(&vm, exec, Signal::SIGKILL as i32).await {
            debug!(NEXUS_VM = %vm, error = error.text(), "the command could not be killed");
            // A guest that stands still, or whose agent is away, may come back; one whose VM has ended does not.
            let runs = engine.board().vms().get(&vm).is_some_and(|vm| vm.lifecycle.state().has_vmm());
            if !runs || error.kind() != ErrorKind::GuestUnavailable {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
}

async fn gone(connection: &Connection, origin: &Origin) -> Gone {
    tokio::time::sleep(SETTLED).await;
    match Bond::with(connection, origin).await {
        Ok(mut bond) => bond.departure.next().await.map_or(Gone::Bus, |_| Gone::Caller),
        Err(error) if error.kind() == Some(ErrorKind::Cancelled) => Gone::Caller,
        Err(error) => {
            debug!(%error, "the bus does not say when the caller leaves");
            std::future::pending().await
        }
    }
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
        let not_here = || Error::invalid_args("option `bind` can be `caller` only on a message bus");
        let caller = BusName::try_from(origin.sender.as_str()).map_err(|_| not_here())?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, caller.as_str())
            .arg(2, "")
            .build()?;
        let departure = MessageStream::for_match_rule(rule, connection, None).await?;
        if !zbus::fdo::DBusProxy::new(connection).await?.name_has_owner(caller).await? {
            return Err(Error::new(ErrorKind::Cancelled, "the caller has left the bus"));
        }
        Ok(Self { origin: origin.clone(), departure })
    }

    /// Cancels the job when the caller leaves before its end.
    pub(super) fn hold(self, engine: Engine, job: JobId) {
        tokio::spawn(async move {
            let Self { origin, mut departure } = self;
            let Some(mut picture) = engine.board().jobs().watch(&job) else { return };
            let ended = picture.wait_for(|job| job.state.is_final());
            tokio::select! {
                _ = ended => return,
                gone = departure.next() => if gone.is_none() {
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
