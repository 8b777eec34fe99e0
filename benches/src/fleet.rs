//! Many VMs that are plain processes.

use futures_util::{StreamExt, TryStreamExt, stream};
use nexus_dbus::client::Options;
use zbus::{OwnedObjectPath, Variant};

use crate::{Outcome, session::Session};

/// So many are created or started at once.
const AT_ONCE: usize = 8;

/// What becomes of a VM whose VMM dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterDeath {
    /// It stays down.
    Down,
    /// It is started again.
    Again,
}

/// Creates a VM that is a plain process.
///
/// # Errors
/// When the daemon refuses.
pub(crate) async fn create_one(session: &Session, name: &str, after_death: AfterDeath) -> Outcome<OwnedObjectPath> {
    let policy = match after_death {
        AfterDeath::Down => "no",
        AfterDeath::Again => "on-failure",
    };
    let options = Options::from([("vmm", Variant::from("process")), ("restart-policy", Variant::from(policy))]);
    Ok(session.manager().await?.create_vm(name, options).await?)
}

/// Creates VMs up to `count`.
///
/// # Errors
/// As for one.
pub(crate) async fn create(session: &Session, count: usize, after_death: AfterDeath) -> Outcome<Vec<OwnedObjectPath>> {
    let creating =
        (0..count).map(|number| async move { create_one(session, &format!("vm-{number}"), after_death).await });
    stream::iter(creating).buffer_unordered(AT_ONCE).try_collect().await
}

/// Starts them, and waits until their VMMs run.
///
/// # Errors
/// When one does not start.
pub(crate) async fn start(session: &Session, vms: &[OwnedObjectPath]) -> Outcome<()> {
    let starting = vms.iter().map(|path| async move {
        let job = session.vm(path).await?.start(Options::new()).await?;
        session.job(job).await
    });
    stream::iter(starting).buffer_unordered(AT_ONCE).try_collect().await
}
