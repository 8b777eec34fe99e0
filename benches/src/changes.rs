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

/// Follows the properties of all VMs.
pub(crate) struct Changes {
    changes: mpsc::UnboundedReceiver<Change>,
    reader: JoinHandle<()>,
}

struct Change {
    at: Instant,
    path: OwnedObjectPath,
    properties: HashMap<String, OwnedVariant>,
}

impl Changes {
    /// Begins.
    ///
    /// # Errors
    /// When the bus fails.
    pub(crate) async fn follow(connection: &Connection) -> Outcome<Self> {
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .path_namespace(format!("{ROOT}/vm"))
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .arg(0, VM)
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
        let seen = async {
            while let Some(change) = self.changes.recv().await {
                if change.path == *path && change.properties.get(property).is_some_and(|new| **new == value) {
                    return Ok(change.at);
                }
            }
            Err("the bus is gone")
        };
        match timeout(PATIENCE, seen).await {
            Ok(seen) => Ok(seen?),
            Err(_) => Err(format!("{property} of {} did not become {value}", path.as_str()).into()),
        }
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
        let pending = vms.filter(|(_, interfaces)| interfaces.vm.as_ref().is_some_and(|vm| !vm.guest_ready));
        let mut pending: HashSet<OwnedObjectPath> = pending.map(|(path, _)| path).collect();
        let ready = async {
            while !pending.is_empty() {
                let Some(change) = self.changes.recv().await else { return Err("the bus is gone") };
                match change.properties.get("GuestReady").map(|ready| **ready == Variant::from(true)) {
                    Some(true) => _ = pending.remove(&change.path),
                    Some(false) => _ = pending.insert(change.path),
                    None => {}
                }
            }
            Ok(())
        };
        match timeout(PATIENCE, ready).await {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(format!("{} guests did not answer", pending.len()).into()),
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
