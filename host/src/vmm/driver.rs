use std::path::PathBuf;

use futures_util::future::BoxFuture;
use nexus_model::{ProcessIdentity, vm::VmmKind};

use super::{GuestEnd, MachinePlan, VmmError, console};
use crate::unit::Launch;

/// What a VMM says its virtual CPUs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// They run.
    Running,
    /// They stand still, and go on with [`VmmDriver::resume`].
    Paused,
}

/// One kind of VMM.
///
/// Every call is bounded in time by itself. None notices that the processes have ended: the caller, who watches them,
/// drops the future when they do. Dropping one is safe at any point; what was asked of the VMM may have happened.
pub trait VmmDriver: Send + Sync {
    /// Which one.
    fn kind(&self) -> VmmKind;

    /// Whether the guest is kept apart from the host.
    fn isolated(&self) -> bool;

    /// Clears the runtime folder of what an earlier run left there, writes the VMM's configuration into it (0600), and
    /// says which programs to start. To be called before every start, never while the machine's processes live.
    ///
    /// # Errors
    /// When the plan can't be run by this VMM, or the runtime folder can't be written.
    fn prepare(&self, plan: &MachinePlan) -> Result<Launch, VmmError>;

    /// Brings a machine whose processes were just started to the point where its virtual CPUs run. On a machine that
    /// already is there it does nothing, so it can be repeated after an interruption.
    ///
    /// # Errors
    /// [`VmmError::Rejected`] with the VMM's own words; [`VmmError::Unreachable`] when its API does not come up.
    fn boot<'a>(&'a self, plan: &'a MachinePlan, leader: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>>;

    /// Halts the virtual CPUs. Idempotent.
    ///
    /// # Errors
    /// When the VMM refuses or does not answer.
    fn pause<'a>(&'a self, plan: &'a MachinePlan, leader: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>>;

    /// Lets the virtual CPUs go on. Idempotent.
    ///
    /// # Errors
    /// When the VMM refuses or does not answer.
    fn resume<'a>(&'a self, plan: &'a MachinePlan, leader: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>>;

    /// Asks the VMM what its virtual CPUs do.
    ///
    /// # Errors
    /// [`VmmError::Broken`] when they can neither run nor be resumed; others when the VMM does not answer.
    fn state<'a>(
        &'a self,
        plan: &'a MachinePlan,
        leader: &'a ProcessIdentity,
    ) -> BoxFuture<'a, Result<MachineState, VmmError>>;

    /// The VMM's API socket, if it has one.
    fn api_socket(&self, plan: &MachinePlan) -> Option<PathBuf>;

    /// Memory that the machine's processes need beyond the guest's own, for the limit of their unit.
    fn overhead_bytes(&self) -> u64;

    /// How the guest ended, as far as its kernel's last words on the console tell: for a VMM that exited well and whose
    /// agent was not heard. The guest writes the console, so this is what it says of itself.
    ///
    /// # Errors
    /// When the console log can't be read.
    fn guest_end(&self, plan: &MachinePlan) -> Result<Option<GuestEnd>, VmmError> {
        console::guest_end(&plan.console_log)
    }
}
