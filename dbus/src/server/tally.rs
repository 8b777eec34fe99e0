//! What `Manager` counts.

use nexus_actors::{
    snapshot::{JobSnapshot, VmSnapshot},
    supervisor::ChildStatus,
};
use nexus_model::Health;

/// Sums over all objects, kept up by the projector transition by transition: a getter that went through all of them
/// would take long where there are many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Whether nexusd has said that it is up.
    pub(super) started: bool,
    pub(super) vms: u32,
    pub(super) running_vms: u32,
    pub(super) committed_memory_bytes: u64,
    pub(super) jobs: u32,
    /// Actors that are not well.
    pub(super) unwell: u32,
}

impl Tally {
    pub(super) const fn state(&self, draining: bool) -> &'static str {
        match self {
            _ if draining => "draining",
            Self { started: false, .. } => "starting",
            Self { unwell: 0, .. } => "running",
            Self { .. } => "degraded",
        }
    }

    pub(super) fn vm(&mut self, before: Option<&VmSnapshot>, after: Option<&VmSnapshot>) {
        let running = |vm: &VmSnapshot| vm.lifecycle.state().has_vmm();
        step(&mut self.vms, before.is_some(), after.is_some());
        step(&mut self.running_vms, before.is_some_and(running), after.is_some_and(running));
        let memory = |vm: Option<&VmSnapshot>| vm.filter(|vm| running(vm)).map_or(0, |vm| vm.memory_bytes);
        self.committed_memory_bytes = (self.committed_memory_bytes + memory(after)).saturating_sub(memory(before));
    }

    pub(super) fn job(&mut self, before: Option<&JobSnapshot>, after: Option<&JobSnapshot>) {
        let open = |job: &JobSnapshot| !job.state.is_final();
        step(&mut self.jobs, before.is_some_and(open), after.is_some_and(open));
    }

    pub(super) fn actor(&mut self, before: Option<&ChildStatus>, after: Option<&ChildStatus>) {
        step(&mut self.unwell, before.is_some_and(unwell), after.is_some_and(unwell));
    }
}

/// An actor that is being started for the first time is not unwell yet.
fn unwell(actor: &ChildStatus) -> bool {
    match actor.health {
        Health::Ok => false,
        Health::Restarting => actor.restart_count > 0 || actor.fault_count > 0,
        Health::Degraded | Health::Unreachable | Health::Unmanaged | Health::Failed => true,
    }
}

fn step(count: &mut u32, before: bool, after: bool) {
    match (before, after) {
        (false, true) => *count += 1,
        (true, false) => *count = count.saturating_sub(1),
        (false, false) | (true, true) => (),
    }
}
