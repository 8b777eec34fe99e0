//! Starting the VMs whose owners want them started with the daemon.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use futures_util::StreamExt;
use nexus_model::{
    Name,
    vm::{Desired, Reason, VmState},
};
use tracing::{info, warn};

use crate::{Engine, Error, Origin, snapshot::VmSnapshot};

/// The VMs whose turn has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Autostarts(Mutex<BTreeSet<Name>>);

impl Autostarts {
    /// It is not to be started any more; true if it was to be.
    pub(crate) fn call_off(&self, name: &Name) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    fn put(&self, names: impl Iterator<Item = Name>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }
}

impl Engine {
    /// Starts the VMs whose owners want them started with the daemon: those that were created first come first, and only
    /// so many at a time as the settings say. Returns when each of them runs or could not be started. One that somebody
    /// stops, starts or removes before its turn is left alone. After [`ready`](Self::ready).
    ///
    /// # Errors
    /// When the system has no random source.
    pub async fn autostart(&self) -> Result<(), Error> {
        let origin = Self::own_origin()?;
        let mut due: Vec<_> = self.board.vms().all().into_iter().filter(|vm| is_due(vm)).collect();
        if due.is_empty() {
            return Ok(());
        }
        due.sort_by(|one, other| (one.created_at, &one.name).cmp(&(other.created_at, &other.name)));
        self.autostarts.put(due.iter().map(|vm| vm.name.clone()));
        let parallel = self.settings.autostart_parallel.max(1);
        let vms = if due.len() == 1 { "1 VM starts".to_owned() } else { format!("{} VMs start", due.len()) };
        info!("{vms} with the daemon, {parallel} at a time");
        let names = due.into_iter().map(|vm| vm.name.clone());
        futures_util::stream::iter(names).for_each_concurrent(parallel, |name| self.take_turn(&origin, name)).await;
        Ok(())
    }

    /// Starts one of them, if that is still wanted, and waits until it runs.
    async fn take_turn(&self, origin: &Origin, name: Name) {
        let wanted = self.autostarts.call_off(&name);
        if !wanted || !self.board.vms().get(&name).is_some_and(|vm| is_due(&vm)) {
            return;
        }
        info!(NEXUS_VM = %name, "VM {name} starts with the daemon");
        let job = match self.start_vm_because(origin, &name, Reason::Autostart).await {
            Ok(job) => job,
            Err(error) => return warn!(NEXUS_VM = %name, "VM {name} could not be started: {}", error.text()),
        };
        if let Some(mut job) = self.board.jobs().watch(&job) {
            // Gone is ended.
            let _ = job.wait_for(|job| job.state.is_final()).await;
        }
    }
}

/// A VM at rest that is to be started with the daemon. A stop that somebody asked for stays one.
fn is_due(vm: &VmSnapshot) -> bool {
    let idle = matches!(vm.lifecycle.state(), VmState::Created | VmState::Stopped | VmState::Failed);
    vm.autostart && idle && vm.desired == Desired::Resting
}
