//! What ends with its caller: a job with `bind=caller`, and a call whose answer only that caller waits for.

use std::time::Duration;

use futures_util::StreamExt;
use nexus_actors::{Engine, Origin, snapshot::JobId};
use nexus_model::ErrorKind;
use tracing::{debug, info};
use zbus::{Connection, MatchRule, MessageStream, message::Type, names::BusName};

use super::options::Options;
use crate::Error;

/// How long a call goes on before its caller is watched. Most are answered by then, and cost the bus nothing.
const SETTLED: Duration = Duration::from_millis(100);

/// Waits until the caller has left the bus, or this connection was lost: there is nobody to answer then. Never, where
/// departures can't be heard of.
pub(super) async fn departure(connection: &Connection, origin: &Origin) {
    tokio::time::sleep(SETTLED).await;
    match Bond::with(connection, origin).await {
        Ok(mut bond) => {
            bond.departure.next().await;
        }
        Err(error) if error.kind() == Some(ErrorKind::Cancelled) => {}
        Err(error) => {
            debug!(%error, "the bus does not say when the caller leaves");
            std::future::pending().await
        }
    }
    info!(NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "the caller left the bus: what it waited for is cancelled");
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
