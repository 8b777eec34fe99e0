//! The guest of a VM, which may still be booting.

use std::time::Duration;

use nexus_dbus::{
    Error,
    client::{GuestProxy, VmProperties},
};
use nexus_model::ErrorKind;
use zbus::OwnedObjectPath;

use crate::{
    bus::Bus,
    failure::Failure,
    interrupt::Interrupts,
    vm::ready::{self, NotReady},
};

/// A guest that commands are run in.
pub(crate) struct Guest<'a> {
    pub(super) bus: &'a Bus,
    pub(super) path: OwnedObjectPath,
    pub(super) proxy: GuestProxy<'static>,
    /// The VM's name, for people.
    pub(super) name: String,
    /// How long it may take to boot.
    pub(super) boot: Duration,
}

impl<'a> Guest<'a> {
    /// The guest of the VM at `path`.
    pub(crate) async fn at(bus: &'a Bus, path: OwnedObjectPath, name: String, boot: Duration) -> Result<Self, Failure> {
        let proxy =
            GuestProxy::builder(bus.connection()).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No);
        let proxy = bus.ask("reach the guest", proxy.build()).await?;
        Ok(Self { bus, path, proxy, name, boot })
    }

    /// Waits until it answers, for as long as it may take to boot.
    pub(crate) async fn answers(&self, interrupts: &mut Interrupts) -> Result<(), Failure> {
        self.ready(self.boot, interrupts).await
    }

    /// Waits for a guest that is booting.
    pub(super) async fn ready(&self, limit: Duration, interrupts: &mut Interrupts) -> Result<(), Failure> {
        ready::wait(self.bus, &self.path, &self.name, limit, interrupts).await.map_err(NotReady::of_lasting)
    }

    pub(super) async fn vm(&self) -> Result<VmProperties, Failure> {
        self.bus.read("see how the VM is", &self.path).await
    }
}

/// Whether an error says that there is no agent to talk to.
pub(crate) fn is_absent(error: &Error) -> bool {
    match error {
        Error::Nexus { kind, .. } => *kind == ErrorKind::GuestUnavailable,
        Error::Bus(zbus::Error::FDO(error)) => {
            matches!(**error, zbus::fdo::Error::UnknownInterface(_) | zbus::fdo::Error::UnknownMethod(_))
        }
        Error::Bus(_) => false,
    }
}
