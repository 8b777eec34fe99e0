//! The guest agent as a plain process of the host, which speaks the hybrid vsock protocol itself. It isolates nothing: it
//! is for tests and for benches with more machines than memory could hold.

use std::{fs, io, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use nexus_model::{ProcessIdentity, vm::VmmKind};

use super::{
    GuestEnd, HostCheck, MachinePlan, MachineState, VmmDriver, VmmError, runtime_dir,
    vmms::{Detection, Missing, VmmConfig},
};
use crate::{
    process::{ProcessWatch, Signal, stat},
    unit::{Launch, Log, Program, ProgramRole},
    vsock::Endpoint,
};

/// The driver. There is nothing to configure.
pub(super) struct Process;

impl Process {
    pub(super) fn detect(config: &VmmConfig) -> Detection {
        let check = if config.allow_process {
            HostCheck::found("process", "allowed by the configuration; it isolates nothing")
        } else {
            HostCheck::missing(
                "process",
                "not allowed: tests and benches, which alone need it, configure vmm.allow-process",
            )
        };
        Detection {
            kind: VmmKind::Process,
            driver: if config.allow_process { Ok(Arc::new(Self)) } else { Err(Missing::Permission) },
            automatic: false,
            checks: vec![check],
        }
    }
}

impl VmmDriver for Process {
    fn kind(&self) -> VmmKind {
        VmmKind::Process
    }

    fn isolated(&self) -> bool {
        false
    }

    fn prepare(&self, plan: &MachinePlan) -> Result<Launch, VmmError> {
        let socket = plan.vsock_socket();
        runtime_dir::check_socket(&socket)?;
        runtime_dir::clear(&plan.runtime_dir)?;
        let agent = Program {
            role: ProgramRole::Vmm,
            argv: vec![plan.agent.clone().into(), "--process".into(), plan.runtime_dir.clone().into()],
            env: Vec::new(),
            ready_socket: Some(socket.clone()),
            log: Some(Log { path: plan.console_log.clone(), max_bytes: plan.console_max_bytes }),
        };
        Ok(Launch {
            programs: vec![agent],
            sandbox: None,
            working_directory: plan.runtime_dir.clone(),
            endpoint: Endpoint::Hybrid { socket },
        })
    }

    fn boot<'a>(&'a self, _: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        // A process runs once it was started, and its launch has waited for its socket.
        Box::pin(async { Ok(()) })
    }

    fn pause<'a>(&'a self, _: &'a MachinePlan, leader: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async move { signal(leader, Signal::SIGSTOP) })
    }

    fn resume<'a>(&'a self, _: &'a MachinePlan, leader: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async move { signal(leader, Signal::SIGCONT) })
    }

    fn state<'a>(
        &'a self,
        _: &'a MachinePlan,
        leader: &'a ProcessIdentity,
    ) -> BoxFuture<'a, Result<MachineState, VmmError>> {
        Box::pin(async move { state(leader) })
    }

    fn api_socket(&self, _: &MachinePlan) -> Option<PathBuf> {
        None
    }

    fn overhead_bytes(&self) -> u64 {
        0
    }

    fn guest_end(&self, _: &MachinePlan) -> Result<Option<GuestEnd>, VmmError> {
        // It has no kernel of its own whose last words could be read.
        Ok(None)
    }
}

fn watch(leader: &ProcessIdentity) -> Result<ProcessWatch, VmmError> {
    ProcessWatch::open(leader)?.ok_or(VmmError::Gone { pid: leader.pid })
}

fn signal(leader: &ProcessIdentity, signal: Signal) -> Result<(), VmmError> {
    if watch(leader)?.signal(signal)? { Ok(()) } else { Err(VmmError::Gone { pid: leader.pid }) }
}

/// Field 3 of `proc_pid_stat(5)`: `T` is stopped by a signal.
fn state(leader: &ProcessIdentity) -> Result<MachineState, VmmError> {
    let _pinned = watch(leader)?;
    let path = PathBuf::from(format!("/proc/{}/stat", leader.pid));
    let stat = match fs::read(&path) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(VmmError::Gone { pid: leader.pid }),
        Err(source) => return Err(VmmError::File { action: "read", path, source }),
    };
    let state = stat::from_third(&stat).and_then(|mut fields| fields.next());
    Ok(if state == Some("T") { MachineState::Paused } else { MachineState::Running })
}
