//! Starting: from the request to the VMM running.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nexus_host::{
    storage::DISK,
    unit::{
        UnitSpec, UnitState,
        record::{TOKEN, VMM_FOLDER},
    },
    vmm::{MachinePlan, PREVIOUS_CONSOLE},
};
use nexus_model::{
    ErrorKind, ExitStatus, Name, WorkspaceState, failpoint,
    restart::RestartPolicy,
    vm::{Desired, Reason, VmSpec, VmmKind},
};
use nexus_store::{AssetRow, ProcessRow};

use super::{
    MachineMessage,
    end::rests,
    message::Launched,
    operation::{Operation, OperationKind},
    state::Machine,
};
use crate::{
    Engine, Error, Origin,
    ask::Reply,
    jobs::JobControl,
    vm::{Power, memory::check_available, random_id},
};

/// How long a VM may wait for its workspace to be made. Copies of large images take minutes.
const WORKSPACE_DEADLINE: Duration = Duration::from_secs(3600);

impl Machine {
    /// [`MachineMessage::Start`].
    pub(super) async fn start(
        &mut self,
        origin: Origin,
        reason: Reason,
        wanted: Option<Desired>,
        job: Option<JobControl>,
        reply: Reply<()>,
    ) -> Result<(), Error> {
        if job.as_ref().is_some_and(JobControl::is_cancelled) {
            // While it waited for this incarnation.
            let text = format!("the start of VM `{}` was cancelled", self.vm.name);
            let _ = reply.send(Err(Error::new(ErrorKind::Cancelled, text)));
            return Ok(());
        }
        let legal = self.row.lifecycle.starting(reason, Self::now());
        if let Err(error) = self.check_idle().and_then(|()| legal.map(|_| ()).map_err(|error| self.illegal(error))) {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        if wanted.is_some_and(|wanted| wanted != self.row.desired) {
            let _ = reply.send(Err(self.stopped_meanwhile()));
            return Ok(());
        }
        self.asked(&origin, "started");
        self.begin_start(reason, job, Some(reply)).await
    }

    /// Stores the intent and begins the work. The state allows it.
    pub(super) async fn begin_start(
        &mut self,
        reason: Reason,
        job: Option<JobControl>,
        reply: Option<Reply<()>>,
    ) -> Result<(), Error> {
        self.cause = job.as_ref().map(JobControl::id);
        let now = Self::now();
        let lifecycle = self.row.lifecycle.starting(reason, now).map_err(|error| self.illegal(error))?;
        let mut failures = self.failures.clone();
        // Who starts it forgives it.
        if reason != Reason::RestartPolicy {
            failures.reset();
        }
        let recent = failures.recent().collect();
        let stored = self
            .commit("", |row| {
                row.desired = Desired::Running;
                row.lifecycle = lifecycle;
                row.started_at = now;
                row.boot_duration = None;
                row.ready_duration = None;
                row.recent_failures = recent;
            })
            .await;
        if let Err(error) = stored {
            match reply {
                Some(reply) => drop(reply.send(Err(error))),
                // Nobody asked, so nobody would ask again.
                None => {
                    let text = error.text();
                    self.warn(format_args!("the start of VM {} could not be stored: {text}", self.vm.name));
                    self.restart_after(RestartPolicy::BACKOFF.max);
                }
            }
            return Ok(());
        }
        self.failures = failures;
        self.run += 1;
        self.ending = None;
        self.guest = None;
        self.forget_restart();
        let launch = Launch {
            engine: self.engine.clone(),
            vm: self.vm.clone(),
            spec: self.row.spec.clone(),
            cid: self.row.cid,
            unit: self.unit(),
            runtime: self.runtime(),
            in_turn: matches!(reason, Reason::Autostart | Reason::HostRebooted),
            job: job.clone(),
        };
        let myself = self.myself.clone();
        self.begin(OperationKind::Start, job, reply, move |number| async move {
            launch
                .run(|launched| {
                    let launched = Box::new(launched);
                    let _ = myself.send_message(MachineMessage::Launched { operation: number, launched });
                })
                .await
        });
        self.publish();
        Ok(())
    }

    /// [`MachineMessage::Launched`]: the processes are there; from now on their end is noticed.
    pub(super) async fn launched(&mut self, number: u64, launched: Launched) -> Result<(), Error> {
        let expected = self.operation.as_ref().is_some_and(|operation| operation.number == number);
        if !expected {
            // Called off meanwhile; whoever did that kills the unit.
            return Ok(());
        }
        let Launched { started, vmm, kernel, initrd } = launched;
        self.driver = self.engine.vmms.driver(vmm).ok();
        self.endpoint = Some(started.endpoint);
        let leader = started.leader.clone();
        self.commit("", |row| {
            row.vmm = Some(vmm);
            row.kernel = kernel;
            row.initrd = initrd;
            row.exit = None;
            row.exit_reason = String::new();
            row.process = Some(ProcessRow {
                leader: started.leader,
                keeper: started.keeper,
                unit: started.unit,
                invocation_id: started.invocation_id,
            });
        })
        .await?;
        self.watch_leader(leader);
        Ok(())
    }

    /// The start has ended by itself, well or not.
    pub(super) async fn start_ended(&mut self, operation: Operation, result: Result<(), Error>) -> Result<(), Error> {
        let Err(error) = result else {
            let now = Self::now();
            let boot = self.row.started_at.until(now);
            let lifecycle = self.row.lifecycle.running(Reason::VmmStarted, now).map_err(|error| self.illegal(error))?;
            self.power_on()?;
            self.commit("", |row| {
                row.lifecycle = lifecycle;
                row.boot_duration = Some(boot);
            })
            .await?;
            operation.answer(Ok(()));
            return Ok(());
        };
        // The VMM may have ended in the middle of it: its status says more than the broken API does.
        let exit = match self.clear_away().await {
            Ok(exit) => exit,
            // Something of it may still run, which the next incarnation clears away. Whoever asked is told that it failed,
            // so that no start may follow, unless the policy asked.
            Err(left) => {
                let text = error.text();
                let asked = self.row.lifecycle.reason() != Reason::RestartPolicy;
                self.commit("", |row| {
                    row.exit_reason = text;
                    if asked {
                        rests(row);
                    }
                })
                .await?;
                operation.answer(Err(error));
                return Err(left);
            }
        };
        let text = exit.map_or_else(|| error.text(), |status| format!("{}; the VMM {status}", error.text()));
        self.start_failed(&text, exit).await?;
        operation.answer(Err(Error::new(error.kind(), text)));
        Ok(())
    }

    /// A start that came to nothing: a failure like any other if the restart policy made it, else the end of it.
    pub(super) async fn start_failed(&mut self, text: &str, exit: Option<ExitStatus>) -> Result<(), Error> {
        let now = Self::now();
        if self.row.lifecycle.reason() == Reason::RestartPolicy {
            let verdict = self.crashed(Reason::StartFailed, text, exit, now).await?;
            return self.follow(verdict).await;
        }
        let lifecycle = self.row.lifecycle.failed(Reason::StartFailed, now).map_err(|error| self.illegal(error))?;
        self.commit(text, |row| {
            row.lifecycle = lifecycle;
            row.process = None;
            row.stopped_at = now;
            row.exit = exit;
            text.clone_into(&mut row.exit_reason);
            row.failure_count += 1;
            rests(row);
        })
        .await?;
        self.child.reporter.count_failure();
        self.rest();
        Ok(())
    }

    /// Kills and forgets whatever is left of a run. Gives its exit status if there was one.
    pub(super) async fn clear_away(&mut self) -> Result<Option<ExitStatus>, Error> {
        let watch = self.watch.take();
        let (unit, runtime) = (self.unit(), self.runtime());
        let keeper = self.engine.keeper.clone();
        let cleared = async {
            keeper.kill(&unit, &runtime).await?;
            failpoint("clear.killed");
            let status = match keeper.inspect(&unit, &runtime).await? {
                UnitState::Ended(record) => Some(record.status),
                _ => None,
            };
            keeper.collect(&unit, &runtime).await?;
            failpoint("clear.collected");
            Ok(status)
        };
        let cleared = cleared.await;
        if cleared.is_err() {
            // Whatever is left is still to be noticed when it ends.
            self.watch = watch;
        }
        cleared
    }

    /// As [`clear_away`](Self::clear_away), where the VMM is known to be gone and only records may be left.
    pub(super) async fn clear_away_or_warn(&mut self) -> Option<ExitStatus> {
        self.clear_away().await.unwrap_or_else(|error| {
            self.warn(format_args!("what is left of VM {} could not be cleared away: {}", self.vm.name, error.text()));
            None
        })
    }

    /// Tells the connections that there is a guest.
    pub(super) fn power_on(&self) -> Result<(), Error> {
        let endpoint = self.endpoint.clone().ok_or_else(|| Error::internal("a running VM has no known endpoint"))?;
        let socket = endpoint.socket().map(PathBuf::from);
        let token = fs::read_to_string(self.runtime().join(TOKEN)).ok();
        self.turn_power(Power::On { run: self.run, endpoint, socket, token });
        Ok(())
    }

    /// The plan of the run that is there, for a driver that is asked about it.
    pub(super) fn plan_of_run(&self) -> MachinePlan {
        let disk = self.row.spec.workspace.as_ref().and_then(|name| self.engine.board.workspaces().get(name));
        let boot = Boot { disk: disk.map(|workspace| workspace.path.join(DISK)), ..Boot::default() };
        plan(&self.engine, self.vm.id, &self.vm.name, &self.row.spec, self.row.cid, boot)
    }
}

/// What the agent of this run wants to be told. The file lies beside the keeper's records, out of the VMM's reach.
fn new_token(path: &Path) -> Result<String, Error> {
    let token = format!("{}{}", random_id()?, random_id()?);
    let failed = |error| Error::caused(ErrorKind::StorageFailed, format!("cannot write {}", path.display()), error);
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(token.as_bytes()).map_err(failed)?;
    Ok(token)
}

/// The console of the run before is kept beside that of the new one, so that its last words are not taken for new ones.
fn set_aside_console(log: &Path) -> Result<(), Error> {
    let failed = |error| Error::caused(ErrorKind::StorageFailed, format!("cannot set {} aside", log.display()), error);
    let _ = fs::remove_file(log.with_extension("log.1"));
    match fs::rename(log, log.with_file_name(PREVIOUS_CONSOLE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// What a VM boots from.
#[derive(Default)]
struct Boot {
    kernel: PathBuf,
    kernel_elf: Option<PathBuf>,
    initrd: Option<PathBuf>,
    disk: Option<PathBuf>,
}

fn plan(engine: &Engine, vm: nexus_model::Id, name: &Name, spec: &VmSpec, cid: u32, boot: Boot) -> MachinePlan {
    MachinePlan {
        vm,
        name: name.clone(),
        vcpus: spec.vcpus,
        memory_bytes: spec.memory_bytes,
        kernel: boot.kernel,
        kernel_elf: boot.kernel_elf,
        initrd: boot.initrd,
        kernel_args: spec.kernel_args.clone(),
        disk: boot.disk,
        cid,
        // The keeper's own records lie beside it, out of the VMM's reach.
        runtime_dir: engine.settings.folders.vm_runtime(vm).join(VMM_FOLDER),
        console_max_bytes: engine.settings.console_max_bytes,
        console_log: engine.settings.folders.vm_logs(vm).join("console.log"),
        agent: engine.settings.agent.clone(),
    }
}

/// The work of a start.
struct Launch {
    engine: Engine,
    vm: Arc<crate::vm::VmContext>,
    spec: VmSpec,
    cid: u32,
    unit: String,
    runtime: PathBuf,
    /// Whether nexusd starts it by itself, so that it waits for a turn.
    in_turn: bool,
    job: Option<JobControl>,
}

impl Launch {
    async fn run(self, launched: impl FnOnce(Launched)) -> Result<(), Error> {
        let driver = self.engine.vmms.choose(self.spec.vmm)?;
        self.stage("workspace");
        let disk = self.disk().await?;
        let _turn = if self.in_turn { self.engine.start_turns.acquire().await.ok() } else { None };
        check_available(&self.vm.name, self.spec.memory_bytes)?;
        let assets = self.assets(driver.kind())?;
        let boot = self.boot(assets.as_ref(), disk)?;
        let mut plan = plan(&self.engine, self.vm.id, &self.vm.name, &self.spec, self.cid, boot);

        self.stage("vmm");
        for folder in [&self.runtime, &plan.runtime_dir, &self.engine.settings.folders.vm_logs(self.vm.id)] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
                Error::caused(ErrorKind::StorageFailed, format!("cannot create {}", folder.display()), error)
            })?;
        }
        failpoint("start.folders");
        set_aside_console(&plan.console_log)?;
        failpoint("start.console");
        if driver.isolated() {
            let token = new_token(&self.runtime.join(TOKEN))?;
            plan.kernel_args = format!("{} nexus.token={token}", plan.kernel_args).trim_start().to_owned();
        }
        failpoint("start.token");
        let launch = driver.prepare(&plan)?;
        failpoint("start.prepared");
        let unit = UnitSpec {
            name: self.unit.clone(),
            description: format!("Nexus VM {}", self.vm.name),
            runtime_dir: self.runtime.clone(),
            launch,
            memory_max_bytes: Some(self.spec.memory_bytes.saturating_add(driver.overhead_bytes())),
        };
        let started = self.engine.keeper.start(&unit).await?;
        failpoint("start.unit");
        let leader = started.leader.clone();
        let (kernel, initrd) = match assets {
            Some((kernel, initrd)) => (Some(kernel.name), initrd.map(|initrd| initrd.name)),
            None => (None, None),
        };
        launched(Launched { started, vmm: driver.kind(), kernel, initrd });

        self.stage("boot");
        driver.boot(&plan, &leader).await?;
        failpoint("start.booted");
        Ok(())
    }

    fn stage(&self, stage: &str) {
        if let Some(job) = &self.job {
            job.stage(stage);
        }
    }

    /// The root disk, once its workspace is ready.
    async fn disk(&self) -> Result<Option<PathBuf>, Error> {
        let Some(name) = &self.spec.workspace else { return Ok(None) };
        let mut workspace =
            self.engine.board.workspaces().watch(name).ok_or_else(|| Error::not_found("workspace", name.as_str()))?;
        let settled = workspace.wait_for(|workspace| workspace.state != WorkspaceState::Creating);
        let workspace = match tokio::time::timeout(WORKSPACE_DEADLINE, settled).await {
            Ok(Ok(workspace)) => workspace.clone(),
            Ok(Err(_)) => return Err(Error::not_found("workspace", name.as_str())),
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "workspace `{name}` is still being made: start the VM again once `nexusctl ws inspect {name}` shows it"
                    ),
                ));
            }
        };
        match workspace.state {
            WorkspaceState::Ready | WorkspaceState::Attached => Ok(Some(workspace.path.join(DISK))),
            state => {
                let (kind, why) = match &workspace.failure {
                    Some((kind, why)) => (*kind, why.as_str()),
                    None => (ErrorKind::StorageFailed, "see the journal"),
                };
                let text = format!("the workspace `{name}` of VM `{}` is {state}: {why}", self.vm.name);
                Err(Error::new(kind, text))
            }
        }
    }

    /// Kernel and initrd, for a VMM that boots one.
    fn assets(&self, vmm: VmmKind) -> Result<Option<(AssetRow, Option<AssetRow>)>, Error> {
        if vmm == VmmKind::Process {
            return Ok(None);
        }
        let kernel = self.engine.kernel(self.spec.kernel.as_ref())?;
        let initrd = self.engine.initrd(self.spec.initrd.as_ref(), &kernel)?;
        Ok(Some((kernel, initrd)))
    }

    fn boot(&self, assets: Option<&(AssetRow, Option<AssetRow>)>, disk: Option<PathBuf>) -> Result<Boot, Error> {
        let Some((kernel, initrd)) = assets else { return Ok(Boot { disk, ..Boot::default() }) };
        if disk.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("VM `{}` has no disk: create it with an image or a workspace", self.vm.name),
            ));
        }
        Ok(Boot {
            kernel: kernel.path.clone(),
            kernel_elf: kernel.elf_path.clone(),
            initrd: initrd.as_ref().map(|initrd| initrd.path.clone()),
            disk,
        })
    }
}
