//! The way to the daemon, and what is said when there is none.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use nexus_dbus::{
    Error, ROOT, SERVICE,
    client::{Interfaces, ManagerProperties, ManagerProxy, Row, objects_of},
};
use nexus_model::{ErrorKind, Timestamp};
use tokio::time::timeout;
use zbus::{
    Connection, DBusError, MatchRule, MessageStream, ObjectPath, OwnedObjectPath, connection, fdo::DBusProxy,
    message::Type,
};

use crate::{
    failure::Failure,
    output::{self, amount, sentence},
};

/// After how long a call has failed that is answered at once: the server's own deadline is 20 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// After how long it is said that somebody waits for a daemon that is away.
pub(crate) const NOTICE: Duration = Duration::from_secs(2);

/// The bus name of systemd's manager; on a session bus that of the user.
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// What starts the daemon where systemd does.
const START_UNIT: &str = "systemctl --user start nexus.service";

/// A connection to the session bus.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    connection: Connection,
}

/// Everything at one instant.
pub(crate) struct Objects {
    /// All objects below the root.
    pub(crate) all: HashMap<OwnedObjectPath, Interfaces>,
    /// That instant.
    pub(crate) now: Timestamp,
}

/// Wakes up when the properties of an object may have changed.
pub(crate) struct Watch {
    changes: MessageStream,
    owner: MessageStream,
}

impl Bus {
    /// Connects. The daemon itself may still be away.
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let connecting = connection::Builder::session().build();
        match timeout(DEADLINE, connecting).await {
            Ok(Ok(connection)) => Ok(Self { connection }),
            Ok(Err(error)) => Err(no_bus(&error.to_string())),
            Err(_) => Err(no_bus("the session bus does not answer")),
        }
    }

    /// The connection.
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls the manager.
    pub(crate) async fn manager(&self) -> Result<ManagerProxy<'static>, Failure> {
        let manager =
            ManagerProxy::builder(&self.connection).cache_properties(zbus::proxy::CacheProperties::No).build();
        manager.await.map_err(|error| Failure::call("reach the daemon", &error.into()))
    }

    /// Calls the manager of the daemon with this name on the bus. One that has gone is not started.
    pub(crate) async fn manager_of(&self, daemon: &str) -> Result<ManagerProxy<'static>, Failure> {
        let manager = ManagerProxy::builder(&self.connection)
            .destination(daemon.to_owned())
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build();
        manager.await.map_err(|error| Failure::call("reach the daemon", &error.into()))
    }

    /// Waits for the answer to a call that is answered at once. `what` is what was asked for: `start VM web`.
    pub(crate) async fn ask<T, E: Into<Error>>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        match timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(what, &error.into()).await),
            Err(_) => Err(Failure::new(format!("cannot {what}"))
                .because(format!("The daemon did not answer within {} s.", DEADLINE.as_secs()))
                .hint("See what it is at", "journalctl --user --unit nexus.service")),
        }
    }

    /// Waits for the answer to a call, and says so once that takes long because there is no daemon: one that is being
    /// started, or started again, is waited for by the bus.
    pub(crate) async fn patiently<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::pin!(call);
        let absent = async {
            tokio::time::sleep(NOTICE).await;
            if self.daemon().await.is_none() {
                let seconds = (DEADLINE - NOTICE).as_secs();
                output::note(format!("The daemon is not running yet. Waiting for it, for {seconds} s at most."));
            }
        };
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            () = absent => {}
        }
        call.await
    }

    /// What to say about a call that failed.
    pub(crate) async fn explain(&self, what: &str, error: &Error) -> Failure {
        let Error::Bus(bus) = error else { return Failure::call(what, error) };
        let name = bus_error_name(bus);
        match name.as_deref() {
            Some("org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner") => {
                self.not_running().await
            }
            // The bus tried to start it, or had systemd try.
            Some(name)
                if name.starts_with("org.freedesktop.DBus.Error.Spawn")
                    || name.starts_with(SYSTEMD)
                    || name == "org.freedesktop.DBus.Error.TimedOut" =>
            {
                let why = bus.description().unwrap_or("it did not come up");
                Failure::new("cannot reach Nexus on the session bus")
                    .because(format!("The daemon could not be started: {}", sentence(why)))
                    .hint("See why", "systemctl --user status nexus.service")
            }
            _ => Failure::call(what, error),
        }
    }

    /// Which daemon there is: its unique name on the bus, another one for each run; none while there is no daemon.
    pub(crate) async fn daemon(&self) -> Option<String> {
        let owner = async {
            let bus = DBusProxy::new(&self.connection).await.ok()?;
            let owner = bus.get_name_owner(SERVICE.try_into().ok()?).await.ok()?;
            Some(owner.to_string())
        };
        timeout(DEADLINE, owner).await.ok().flatten()
    }

    /// What to say when there is no daemon.
    pub(crate) async fn not_running(&self) -> Failure {
        let systemd = async {
            let bus = DBusProxy::new(&self.connection).await.ok()?;
            bus.name_has_owner(SYSTEMD.try_into().ok()?).await.ok()
        };
        let systemd = timeout(DEADLINE, systemd).await.ok().flatten().unwrap_or(false);
        Failure::not_running(if systemd { START_UNIT } else { "nexusd" })
    }

    /// Everything that there is, in one call.
    pub(crate) async fn objects(&self, what: &str) -> Result<Objects, Failure> {
        self.objects_of(SERVICE, what).await
    }

    /// Everything that there is at the daemon with this name on the bus. One that has gone is not started.
    pub(crate) async fn objects_of(&self, daemon: &str, what: &str) -> Result<Objects, Failure> {
        let all = self.ask(what, objects_of(&self.connection, daemon)).await?;
        Ok(Objects { all, now: amount::now() })
    }

    /// What holds for the whole daemon.
    pub(crate) async fn properties(&self) -> Result<ManagerProperties, Failure> {
        let root = ObjectPath::from_static_str_unchecked(ROOT);
        self.ask("ask the daemon how it is", ManagerProperties::read(&self.connection, &root)).await
    }

    /// Reads the properties of one interface of an object.
    pub(crate) async fn read<T: Row>(&self, what: &str, path: &ObjectPath<'_>) -> Result<T, Failure> {
        self.ask(what, T::read(&self.connection, path)).await
    }

    /// Follows an object. Read it once after this, and again after each [`Watch::changed`].
    pub(crate) async fn watch(&self, path: &ObjectPath<'_>) -> Result<Watch, Failure> {
        self.ask("follow what happens", async {
            let changes = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender(SERVICE)
                .path(path)
                .interface("org.freedesktop.DBus.Properties")
                .member("PropertiesChanged")
                .build()?;
            let (changes, owner) = tokio::try_join!(
                MessageStream::for_match_rule(changes, &self.connection, None),
                MessageStream::for_match_rule(owner_changes()?, &self.connection, None),
            )?;
            Ok::<_, zbus::Error>(Watch { changes, owner })
        })
        .await
    }
}

/// Whether an error says that the daemon went away, or was away.
pub(crate) fn is_away(error: &Error) -> bool {
    use zbus::fdo::Error::{Disconnected, NameHasNoOwner, NoReply, ServiceUnknown};
    match error {
        Error::Nexus { kind, .. } => *kind == ErrorKind::ShuttingDown,
        Error::Bus(zbus::Error::FDO(error)) => {
            matches!(**error, NoReply(_) | ServiceUnknown(_) | NameHasNoOwner(_) | Disconnected(_))
        }
        Error::Bus(_) => false,
    }
}

/// When a daemon comes, and when it goes.
pub(crate) fn owner_changes() -> zbus::Result<MatchRule<'static>> {
    MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(0, SERVICE)
        .build()
}

impl Watch {
    /// The next change, or the daemon's end.
    pub(crate) async fn changed(&mut self) {
        let next = tokio::select! {
            next = self.changes.next() => next,
            next = self.owner.next() => next,
        };
        if next.is_none() {
            // The connection is gone. Whoever reads next is told so; nobody is to spin meanwhile.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn bus_error_name(error: &zbus::Error) -> Option<String> {
    match error {
        zbus::Error::MethodError(name, ..) => Some(name.to_string()),
        zbus::Error::FDO(error) => Some(DBusError::name(&**error).to_string()),
        _ => None,
    }
}

fn no_bus(why: &str) -> Failure {
    let failure = Failure::new("cannot reach Nexus on the session bus");
    let failure = match std::env::var_os("DBUS_SESSION_BUS_ADDRESS") {
        None => failure.because("There is no session bus here."),
        Some(_) => failure.because(sentence(why)),
    };
    failure.hint("Start one, and the daemon in it", "dbus-run-session -- sh -c 'nexusd & exec \"$SHELL\"'").for_all()
}
