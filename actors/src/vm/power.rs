//! What can be asked of a VM that is there: to start, to stop, to stand still, to be set otherwise, to tell its history.

use std::{sync::Arc, time::Duration};

use nexus_model::{
    JobKind, Name,
    vm::{Desired, Reason},
};

use super::{
    VmContext,
    machine::{MachineMessage, Next},
};
use crate::{
    Engine, Error, HistoryLine, Origin, StopOptions, VmSetting,
    jobs::{JobControl, JobRequest, JobResult},
    snapshot::{JobId, ObjectRef, ResultValue},
};

/// The longest that a start may take before its caller is told that it takes too long. The start itself goes on.
const START_DEADLINE: Duration = Duration::from_secs(3 * 3600);
/// What a stop may take beyond the guest's own time.
pub(super) const KILL_DEADLINE: Duration = Duration::from_secs(60);
/// For what a VMM answers at once.
const QUICK: Duration = Duration::from_secs(20);

impl Engine {
    /// Starts a VM. The job ends when the VMM runs.
    ///
    /// # Errors
    /// `NotFound`; what is wrong with the start itself is the job's error.
    pub async fn start_vm(&self, origin: &Origin, name: &Name) -> Result<JobId, Error> {
        self.start_vm_because(origin, name, Reason::Requested).await
    }

    pub(crate) async fn start_vm_because(&self, origin: &Origin, name: &Name, reason: Reason) -> Result<JobId, Error> {
        self.check_accepting()?;
        self.vm_job(origin, self.vm_to_change(name)?, JobKind::StartVm, true, move |vm, origin, job| async move {
            // Somebody may have stopped it since its turn came.
            let wanted = (reason == Reason::Autostart).then_some(Desired::Resting);
            start(&vm, origin, reason, wanted, job).await
        })
        .await
    }

    /// Stops a VM: the guest is asked, then the VMM is killed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stop_vm(&self, origin: &Origin, name: &Name, options: StopOptions) -> Result<JobId, Error> {
        self.autostarts.call_off(name);
        let timeout = options.timeout.unwrap_or(self.settings.stop_timeout);
        self.vm_job(origin, self.vm_to_change(name)?, JobKind::StopVm, false, move |vm, origin, job| async move {
            stop(&vm, origin, timeout, Next::Rest, Some(job)).await
        })
        .await
    }

    /// Stops a VM, if it runs, and starts it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn restart_vm(&self, origin: &Origin, name: &Name, options: StopOptions) -> Result<JobId, Error> {
        self.check_accepting()?;
        let timeout = options.timeout.unwrap_or(self.settings.stop_timeout);
        self.vm_job(origin, self.vm_to_change(name)?, JobKind::RestartVm, false, move |vm, origin, job| async move {
            stop(&vm, origin.clone(), timeout, Next::StartAgain, Some(job.clone())).await?;
            // Somebody may have stopped it since the first half.
            start(&vm, origin, Reason::Requested, Some(Desired::Running), job).await
        })
        .await
    }

    /// Kills the VMM. Asked for, so it is no failure: the VM is stopped afterwards.
    ///
    /// # Errors
    /// `NotFound`, `Timeout`.
    pub async fn kill_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        self.autostarts.call_off(name);
        let origin = origin.clone();
        self.vm_to_change(name)?.ask(QUICK, |reply| MachineMessage::Kill { origin, reply }).await
    }

    /// Forgets the VM's failures; one that was given up on for them is started again.
    pub(crate) async fn reset_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm_to_change(name)?.ask(QUICK, |reply| MachineMessage::ResetFailed { origin, reply }).await
    }

    /// Makes the virtual CPUs stand still.
    ///
    /// # Errors
    /// `NotFound`, `InvalidState`, `Busy`, `HypervisorFailed`.
    pub async fn pause_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm_to_change(name)?.ask(QUICK, |reply| MachineMessage::Pause { origin, reply }).await
    }

    /// Makes the virtual CPUs go on.
    ///
    /// # Errors
    /// `NotFound`, `InvalidState`, `Busy`, `HypervisorFailed`.
    pub async fn resume_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm_to_change(name)?.ask(QUICK, |reply| MachineMessage::Resume { origin, reply }).await
    }

    /// Changes a setting of a VM.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgs`.
    pub async fn set_vm(&self, origin: &Origin, name: &Name, setting: VmSetting) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm_to_change(name)?.ask(QUICK, |reply| MachineMessage::Set { origin, setting, reply }).await
    }

    /// The newest `limit` transitions of a VM, the newest first; 0 is all that are kept.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn vm_history(&self, name: &Name, limit: u32) -> Result<Vec<HistoryLine>, Error> {
        let id = self.vm(name)?.id;
        let limit = if limit == 0 { u32::MAX } else { limit };
        let entries = self.store.call(move |store| store.history(id, limit)).await?;
        let line = |entry: nexus_store::HistoryEntry| HistoryLine {
            at: entry.at,
            from: entry.from,
            to: entry.to,
            reason: entry.reason,
            detail: entry.detail,
        };
        Ok(entries.into_iter().map(line).collect())
    }

    /// The context of a VM.
    pub(crate) fn vm(&self, name: &Name) -> Result<Arc<VmContext>, Error> {
        self.vms.get(name).ok_or_else(|| Error::not_found("VM", name.as_str()))
    }

    /// As [`vm`](Self::vm), for what can't be done to one that is being removed.
    fn vm_to_change(&self, name: &Name) -> Result<Arc<VmContext>, Error> {
        self.removals.check(&ObjectRef::Vm(name.clone()))?;
        self.vm(name)
    }

    pub(super) async fn vm_job<W, F>(
        &self,
        origin: &Origin,
        vm: Arc<VmContext>,
        kind: JobKind,
        cancellable: bool,
        work: W,
    ) -> Result<JobId, Error>
    where
        W: FnOnce(Arc<VmContext>, Origin, JobControl) -> F + Send + 'static,
        F: Future<Output = Result<JobResult, Error>> + Send + 'static,
    {
        let objects = vec![ObjectRef::Vm(vm.name.clone())];
        let request = JobRequest { kind, objects, cancellable, origin: origin.clone() };
        let origin = origin.clone();
        self.jobs.submit(request, move |job| work(vm, origin, job)).await
    }
}

async fn start(
    vm: &VmContext,
    origin: Origin,
    reason: Reason,
    wanted: Option<Desired>,
    job: JobControl,
) -> Result<JobResult, Error> {
    let (asked, own) = (origin.clone(), Some(job.clone()));
    let started =
        vm.ask(START_DEADLINE, |reply| MachineMessage::Start { origin: asked, reason, wanted, job: own, reply });
    let mut started = std::pin::pin!(started);
    tokio::select! {
        biased;
        result = &mut started => result?,
        () = job.cancelled() => {
            let job = job.id();
            vm.ask(KILL_DEADLINE, |reply| MachineMessage::CancelStart { job, origin, reply }).await?;
            // That it was cancelled; or that it was done before.
            started.await?;
        }
    }
    Ok(JobResult::from([("vm", ResultValue::Object(ObjectRef::Vm(vm.name.clone())))]))
}

async fn stop(
    vm: &VmContext,
    origin: Origin,
    timeout: Duration,
    next: Next,
    job: Option<JobControl>,
) -> Result<JobResult, Error> {
    let deadline = timeout.saturating_add(KILL_DEADLINE);
    vm.ask(deadline, |reply| MachineMessage::Stop { origin, timeout, next, job, reply }).await?;
    Ok(JobResult::from([("vm", ResultValue::Object(ObjectRef::Vm(vm.name.clone())))]))
}
