//! What can be asked of VMs and their guests.

use std::{sync::Arc, time::Duration};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::{
    ErrorKind, Id, JobKind, Name, Timestamp, WorkspaceState,
    vm::{Desired, Reason, VmSpec, VmmChoice},
};
use nexus_protocol::Command;
use nexus_store::NewVm;
use tracing::{info, warn};

use super::{
    VmContext,
    context::child_spec,
    machine::{MachineMessage, Next},
    removal::{Disks, forget, remove_folder},
};
use crate::{
    Engine, Error, GuestCommand, GuestOutcome, GuestStreams, HistoryLine, Origin, RemoveOptions, StopOptions,
    VmSetting,
    ask::ACTOR_DEADLINE,
    jobs::{JobControl, JobRequest, JobResult},
    snapshot::{JobId, ObjectRef, ResultValue},
    work::blocking,
};

/// The longest that a start may take before its caller is told that it takes too long. The start itself goes on.
const START_DEADLINE: Duration = Duration::from_secs(3 * 3600);
/// What a stop may take beyond the guest's own time.
const KILL_DEADLINE: Duration = Duration::from_secs(60);
/// For what a VMM answers at once.
const QUICK: Duration = Duration::from_secs(20);

impl Engine {
    /// Creates a VM. When `spec` names an image and no workspace, a workspace named like the VM is made from it. No name
    /// is one that Nexus makes up.
    ///
    /// # Errors
    /// `InvalidArgs` for a specification that no VM can have; `NotFound` for an image, a workspace, a kernel or an
    /// initrd that is not there; `AlreadyExists`; `InUse` for a workspace that another VM has; `HostUnsupported` for a
    /// VMM that this machine does not have.
    pub async fn create_vm(&self, origin: &Origin, name: Option<Name>, mut spec: VmSpec) -> Result<Name, Error> {
        self.check_accepting()?;
        spec.validate()?;
        let vmm = self.vmms.choose(spec.vmm)?.kind();
        if spec.vmm != VmmChoice::Process {
            let kernel = self.kernel(spec.kernel.as_ref())?;
            self.initrd(spec.initrd.as_ref(), &kernel)?;
        }
        if vmm != nexus_model::vm::VmmKind::Process && spec.image.is_none() && spec.workspace.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidArgs,
                "a VM needs a disk: name an `image` to make one from, or a `workspace`",
            ));
        }
        if spec.image.is_some() && spec.workspace.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidArgs,
                "name an `image` or a `workspace`, not both: a workspace already has its content",
            ));
        }
        let id = random_id()?;
        let name = name.map_or_else(|| generated_name(id), Ok)?;
        let now = Timestamp::from(std::time::SystemTime::now());
        let image = spec.image.clone();
        if image.is_some() {
            spec.workspace = Some(name.clone());
        }
        let made = match &image {
            Some(image) => Some(self.new_workspace_row(&name, image, Some(id), now)?),
            None => None,
        };
        let existing = match (&image, &spec.workspace) {
            (None, Some(workspace)) => Some(
                self.workspaces.get(workspace).ok_or_else(|| Error::not_found("workspace", workspace.as_str()))?.id,
            ),
            _ => None,
        };
        let new = NewVm { id, name: name.clone(), spec, desired: Desired::Stopped, phase: None, created_at: now };
        let workspace = made.clone();
        let attached = self
            .store
            .call(move |store| {
                store.together(|store| {
                    store.insert_vm(&new)?;
                    match (&workspace, existing) {
                        (Some(workspace), _) => store.insert_workspace(workspace).map(|()| None),
                        (None, Some(existing)) => store.attach_workspace(existing, id, now).map(Some),
                        (None, None) => Ok(None),
                    }
                })
            })
            .await?;
        let vm = self.vms.get_or_insert(&name, || VmContext::new(id, name.clone()));
        if let Some(row) = made {
            self.start_workspace(&row).await?;
        }
        if let Some(row) = attached
            && let Some(context) = self.workspaces.get(&row.name)
        {
            context.refresh().await;
        }
        self.start_child(&self.vms_supervisor, child_spec(self, &vm)).await?;
        // Its supervisor is up; the machine shows the VM.
        vm.machine.current(ACTOR_DEADLINE).await;
        vm.connection.current(ACTOR_DEADLINE).await;
        info!(NEXUS_VM = %name, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "VM {name} created");
        Ok(name)
    }

    /// Starts a VM. The job ends when the VMM runs.
    ///
    /// # Errors
    /// `NotFound`; what is wrong with the start itself is the job's error.
    pub async fn start_vm(&self, origin: &Origin, name: &Name) -> Result<JobId, Error> {
        self.start_vm_because(origin, name, Reason::Requested).await
    }

    pub(crate) async fn start_vm_because(&self, origin: &Origin, name: &Name, reason: Reason) -> Result<JobId, Error> {
        self.check_accepting()?;
        self.vm_job(origin, name, JobKind::StartVm, true, move |vm, origin, job| async move {
            start(&vm, origin, reason, Some(job)).await
        })
        .await
    }

    /// Stops a VM: the guest is asked, then the VMM is killed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stop_vm(&self, origin: &Origin, name: &Name, options: StopOptions) -> Result<JobId, Error> {
        let timeout = options.timeout.unwrap_or(self.settings.stop_timeout);
        self.vm_job(origin, name, JobKind::StopVm, false, move |vm, origin, job| async move {
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
        self.vm_job(origin, name, JobKind::RestartVm, false, move |vm, origin, job| async move {
            stop(&vm, origin.clone(), timeout, Next::StartAgain, Some(job.clone())).await?;
            start(&vm, origin, Reason::Requested, Some(job)).await
        })
        .await
    }

    /// Kills the VMM. Asked for, so it is no failure: the VM is stopped afterwards.
    ///
    /// # Errors
    /// `NotFound`, `Timeout`.
    pub async fn kill_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm(name)?.ask(QUICK, |reply| MachineMessage::Kill { origin, reply }).await
    }

    /// Makes the virtual CPUs stand still.
    ///
    /// # Errors
    /// `NotFound`, `InvalidState`, `Busy`, `HypervisorFailed`.
    pub async fn pause_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm(name)?.ask(QUICK, |reply| MachineMessage::Pause { origin, reply }).await
    }

    /// Makes the virtual CPUs go on.
    ///
    /// # Errors
    /// `NotFound`, `InvalidState`, `Busy`, `HypervisorFailed`.
    pub async fn resume_vm(&self, origin: &Origin, name: &Name) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm(name)?.ask(QUICK, |reply| MachineMessage::Resume { origin, reply }).await
    }

    /// Changes a setting of a VM.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgs`.
    pub async fn set_vm(&self, origin: &Origin, name: &Name, setting: VmSetting) -> Result<(), Error> {
        let origin = origin.clone();
        self.vm(name)?.ask(QUICK, |reply| MachineMessage::Set { origin, setting, reply }).await
    }

    /// Removes a VM.
    ///
    /// # Errors
    /// `NotFound`; `InvalidState` when it runs, unless forced.
    pub async fn remove_vm(&self, origin: &Origin, name: &Name, options: RemoveOptions) -> Result<JobId, Error> {
        let picture = self.board.vms().get(name).ok_or_else(|| Error::not_found("VM", name.as_str()))?;
        if picture.lifecycle.state().has_vmm() && !options.force {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "VM `{name}` is {}: stop it first, or remove it with the option `force` (nexusctl: --force)",
                    picture.lifecycle.state()
                ),
            ));
        }
        let disks = if options.remove_workspaces { Disks::All } else { Disks::Keep };
        self.start_removal(origin, name, options.force, disks).await
    }

    async fn start_removal(&self, origin: &Origin, name: &Name, force: bool, disks: Disks) -> Result<JobId, Error> {
        let engine = self.clone();
        self.vm_job(origin, name, JobKind::RemoveVm, false, move |vm, origin, _| async move {
            engine.remove(&vm, origin, force, disks).await
        })
        .await
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

    /// Runs a command in a guest and waits for its end; its output is capped at 256 KiB.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`, `Timeout`.
    pub async fn guest_run(&self, origin: &Origin, vm: &Name, command: GuestCommand) -> Result<GuestOutcome, Error> {
        let (agent, command) = self.guest_command(origin, vm, command)?;
        let outcome = agent.run(&command).await?;
        if outcome.timed_out {
            return Err(Error::new(ErrorKind::Timeout, "the command was killed: its time was up"));
        }
        Ok(GuestOutcome {
            status: outcome.status,
            stdout: outcome.stdout,
            stderr: outcome.stderr,
            truncated: outcome.truncated,
        })
    }

    /// Starts a command in a guest and gives its streams.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_exec(&self, origin: &Origin, vm: &Name, command: GuestCommand) -> Result<GuestStreams, Error> {
        let (agent, command) = self.guest_command(origin, vm, command)?;
        let streams = agent.exec(&command).await?;
        Ok(GuestStreams { exec: streams.id, stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr })
    }

    /// Waits for the end of a command, however long that takes. When the connection to the agent is lost meanwhile, it
    /// asks again on the next one.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_wait_exec(&self, vm: &Name, exec: u64) -> Result<nexus_model::ExitStatus, Error> {
        let context = self.vm(vm)?;
        let mut agents = context.agent.subscribe();
        loop {
            let agent = agents.borrow_and_update().clone().ok_or_else(|| unavailable(self, vm))?;
            match agent.wait_exec(exec).await {
                Err(error @ AgentError::Gone(_)) => {
                    let next = tokio::time::timeout(QUICK, agents.wait_for(Option::is_some)).await;
                    if !matches!(next, Ok(Ok(_))) {
                        return Err(error.into());
                    }
                }
                other => return other.map_err(Error::from),
            }
        }
    }

    /// Sends a signal, by its Linux number, to all processes of a command.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_signal_exec(&self, vm: &Name, exec: u64, signal: i32) -> Result<(), Error> {
        Ok(self.agent(vm)?.signal_exec(exec, signal).await?)
    }

    /// The commands that run: number and arguments.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_list_execs(&self, vm: &Name) -> Result<Vec<(u64, Vec<String>)>, Error> {
        let execs = self.agent(vm)?.list_execs().await?;
        let running = execs.into_iter().filter(|exec| exec.state == nexus_protocol::ExecState::Running);
        let words = |argv: Vec<nexus_protocol::Text>| argv.iter().map(|word| word.as_str().to_owned()).collect();
        Ok(running.map(|exec| (exec.exec, words(exec.argv))).collect())
    }

    /// The context of a VM.
    pub(crate) fn vm(&self, name: &Name) -> Result<Arc<VmContext>, Error> {
        self.vms.get(name).ok_or_else(|| Error::not_found("VM", name.as_str()))
    }

    /// Removes an ephemeral VM that has stopped.
    pub(crate) fn remove_ephemeral(&self, vm: &Arc<VmContext>) {
        self.remove_in_background(vm, Disks::Own);
    }

    /// Goes on with a removal that was cut off.
    pub(crate) fn resume_removal(&self, vm: &Arc<VmContext>) {
        let ephemeral = self.board.vms().get(&vm.name).is_some_and(|picture| picture.ephemeral);
        self.remove_in_background(vm, if ephemeral { Disks::Own } else { Disks::Keep });
    }

    fn remove_in_background(&self, vm: &Arc<VmContext>, disks: Disks) {
        let (engine, vm) = (self.clone(), vm.clone());
        tokio::spawn(async move {
            let origin = match Engine::own_origin() {
                Ok(origin) => origin,
                Err(error) => return warn!("{}", error.text()),
            };
            if let Err(error) = engine.start_removal(&origin, &vm.name, true, disks).await
                && error.kind() != ErrorKind::NotFound
            {
                warn!(NEXUS_VM = %vm.name, "VM {} could not be removed: {}", vm.name, error.text());
            }
        });
    }

    /// The machine first, then what the VM leaves behind, then the row, together with what is to become of its disks: a
    /// removal that is cut off goes on at the next start.
    async fn remove(&self, vm: &Arc<VmContext>, origin: Origin, force: bool, disks: Disks) -> Result<JobResult, Error> {
        vm.ask(KILL_DEADLINE, |reply| MachineMessage::Retire { origin: origin.clone(), force, reply }).await?;
        let id = vm.id;
        let folders = [self.settings.folders.vm_runtime(id), self.settings.folders.vm_logs(id)];
        blocking(move || folders.iter().try_for_each(|folder| remove_folder(folder))).await?;
        let now = Timestamp::from(std::time::SystemTime::now());
        let rows = self.store.call(move |store| store.together(|store| forget(store, id, disks, now))).await?;
        self.stop_child(&self.vms_supervisor, vm.name.as_str()).await?;
        self.board.withdraw_connection(&(vm.name.clone(), super::connection::AGENT));
        self.board.withdraw_vm(&vm.name);
        self.vms.remove(&vm.name);
        info!(NEXUS_VM = %vm.name, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "VM {} removed", vm.name);
        for row in rows {
            let Some(context) = self.workspaces.get(&row.name) else { continue };
            context.refresh().await;
            if row.state == WorkspaceState::Removing {
                self.remove_workspace_now(&context).await?;
            }
        }
        Ok(JobResult::new())
    }

    async fn vm_job<W, F>(
        &self,
        origin: &Origin,
        name: &Name,
        kind: JobKind,
        cancellable: bool,
        work: W,
    ) -> Result<JobId, Error>
    where
        W: FnOnce(Arc<VmContext>, Origin, JobControl) -> F + Send + 'static,
        F: Future<Output = Result<JobResult, Error>> + Send + 'static,
    {
        let vm = self.vm(name)?;
        let objects = vec![ObjectRef::Vm(name.clone())];
        let request = JobRequest { kind, objects, cancellable, origin: origin.clone() };
        let origin = origin.clone();
        self.jobs.submit(request, move |job| work(vm, origin, job)).await
    }

    fn agent(&self, vm: &Name) -> Result<AgentClient, Error> {
        self.vm(vm)?.agent.borrow().clone().ok_or_else(|| unavailable(self, vm))
    }

    fn guest_command(
        &self,
        origin: &Origin,
        vm: &Name,
        command: GuestCommand,
    ) -> Result<(AgentClient, Command), Error> {
        let agent = self.agent(vm)?;
        let mut env = self.vm(vm)?.env.borrow().clone();
        env.extend(command.env);
        let program = command.argv.first().cloned().unwrap_or_default();
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "runs `{program}` in VM {vm}");
        let timeout = command.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let command = Command {
            argv: command.argv,
            env,
            cwd: command.working_directory,
            user: command.user,
            timeout_ms: timeout,
        };
        Ok((agent, command))
    }
}

async fn start(vm: &VmContext, origin: Origin, reason: Reason, job: Option<JobControl>) -> Result<JobResult, Error> {
    let control = job.clone();
    let asked = origin.clone();
    let started = vm.ask(START_DEADLINE, |reply| MachineMessage::Start { origin: asked, reason, job, reply });
    let cancelled = async {
        match control {
            Some(job) => job.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = started => result?,
        () = cancelled => {
            vm.ask(KILL_DEADLINE, |reply| MachineMessage::Kill { origin, reply }).await?;
            return Err(Error::new(ErrorKind::Cancelled, format!("the start of VM `{}` was cancelled", vm.name)));
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

fn unavailable(engine: &Engine, vm: &Name) -> Error {
    let state = engine.board.vms().get(vm).map_or("gone", |picture| picture.lifecycle.state().as_str());
    let advice = match state {
        "running" => "its agent has not answered yet, or is not in its image: see `nexusctl vm logs`",
        "paused" => "resume it first",
        "starting" => "wait until it is ready",
        _ => "start it first",
    };
    Error::new(
        ErrorKind::GuestUnavailable,
        format!("the guest of VM `{vm}` can't be reached: the VM is {state}; {advice}"),
    )
}

/// A new identifier.
pub(crate) fn random_id() -> Result<Id, Error> {
    Id::random().map_err(|error| Error::caused(ErrorKind::Internal, "the system has no random source", error))
}

/// A name that nobody chose.
fn generated_name(id: Id) -> Result<Name, Error> {
    let text = id.to_string();
    Ok(format!("vm-{}", &text[..8]).parse()?)
}
