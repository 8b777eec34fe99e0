//! What a client sees of VMs as it happens.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use futures_util::StreamExt;
use nexus_dbus::{
    ROOT,
    client::{Row, VmProperties, objects},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, Variant, message};

use crate::{Outcome, session::PATIENCE};

const VM: &str = "org.workfort.Nexus1.Vm";
const SUPERVISED: &str = "org.workfort.Nexus1.Supervised";

/// Follows the properties of all VMs, or of their actors.
pub(crate) struct Changes {
    changes: mpsc::UnboundedReceiver<Change>,
    reader: JoinHandle<()>,
}

/// What a client is told at once of one object.
pub(crate) struct Change {
    /// When it came.
    pub(crate) at: Instant,
    /// Of what.
    pub(crate) path: OwnedObjectPath,
    properties: HashMap<String, OwnedVariant>,
}

impl Change {
    /// Whether it says that a property is that now; `None` when it says nothing of it.
    pub(crate) fn says(&self, property: &str, value: &Variant<'_>) -> Option<bool> {
        self.properties.get(property).map(|new| **new == *value)
    }

    /// What it says that a property is, if that is a number.
    pub(crate) fn number(&self, property: &str) -> Option<u64> {
        self.properties.get(property).and_then(|value| value.try_into().ok())
    }
}

impl Changes {
    /// Begins to follow VMs.
    ///
    /// # Errors
    /// When the bus fails.
    pub(crate) async fn follow(connection: &Connection) -> Outcome<Self> {
        Self::follow_interface(connection, VM).await
    }

    /// Begins to follow how the actors of VMs and of what is in them are.
    ///
    /// # Errors
    /// When the bus fails.
    pub(crate) async fn follow_actors(connection: &Connection) -> Outcome<Self> {
        Self::follow_interface(connection, SUPERVISED).await
    }

    async fn follow_interface(connection: &Connection, interface: &'static str) -> Outcome<Self> {
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .path_namespace(format!("{ROOT}/vm"))
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .arg(0, interface)
            .build()?;
        let mut stream = MessageStream::for_match_rule(rule, connection, None).await?;
        let (sender, changes) = mpsc::unbounded_channel();
        // A stream that nobody reads would hold up the whole connection.
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let at = Instant::now();
                let Some(path) = message.header().path().map(|path| path.to_owned().into()) else { continue };
                let body = message.body();
                let Ok((_, properties, _)) = body.deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
                else {
                    continue;
                };
                if sender.send(Change { at, path, properties }).is_err() {
                    break;
                }
            }
        });
        Ok(Self { changes, reader })
    }

    /// Forgets what was seen so far.
    pub(crate) fn forget(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }

    /// Waits for the first change that `is_it`; returns when that was seen.
    ///
    /// # Errors
    /// When it takes too long, in words that end with `what`.
    pub(crate) async fn first(&mut self, what: &str, mut is_it: impl FnMut(&Change) -> bool) -> Outcome<Instant> {
        let seen = async {
            while let Some(change) = self.changes.recv().await {
                if is_it(&change) {
                    return Ok(change.at);
                }
            }
            Err("the bus is gone")
        };
        match timeout(PATIENCE, seen).await {
            Ok(seen) => Ok(seen?),
            Err(_) => Err(format!("nobody was told within {} s that {what}", PATIENCE.as_secs()).into()),
        }
    }

    /// Waits until a property of a VM is said to have this value; returns when that was seen.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) async fn until(
        &mut self,
        path: &OwnedObjectPath,
        property: &str,
        value: Variant<'_>,
    ) -> Outcome<Instant> {
        let what = format!("{property} of {} is {value}", path.as_str());
        self.first(&what, |change| change.path == *path && change.says(property, &value) == Some(true)).await
    }

    /// Waits until a property of each of these is said to have this value, and none has another again; returns when that
    /// was seen.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) async fn until_all(
        &mut self,
        paths: impl IntoIterator<Item = OwnedObjectPath>,
        property: &str,
        value: Variant<'_>,
    ) -> Outcome<Instant> {
        let mut pending: HashSet<OwnedObjectPath> = paths.into_iter().collect();
        if pending.is_empty() {
            return Ok(Instant::now());
        }
        let what = format!("{property} of all VMs is {value}");
        let settled = |change: &Change| {
            match change.says(property, &value) {
                Some(true) => _ = pending.remove(&change.path),
                Some(false) => _ = pending.insert(change.path.clone()),
                None => {}
            }
            pending.is_empty()
        };
        let settled = self.first(&what, settled).await;
        settled.map_err(|error| match pending.iter().next() {
            Some(one) => format!("{error}; {} are pending, as {}", pending.len(), one.as_str()).into(),
            None => error,
        })
    }

    /// Waits until the guest of a VM has answered.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) async fn ready(&mut self, connection: &Connection, path: &OwnedObjectPath) -> Outcome<()> {
        if !VmProperties::read(connection, path).await?.guest_ready {
            self.until(path, "GuestReady", Variant::from(true)).await?;
        }
        Ok(())
    }

    /// Waits until the guests of all VMs have answered.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) async fn all_ready(&mut self, connection: &Connection) -> Outcome<()> {
        let vms = objects(connection).await?.into_iter();
        let silent = vms.filter(|(_, interfaces)| interfaces.vm.as_ref().is_some_and(|vm| !vm.guest_ready));
        self.until_all(silent.map(|(path, _)| path), "GuestReady", Variant::from(true)).await?;
        Ok(())
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
