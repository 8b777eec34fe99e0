//! Firecracker, where KVM has hardware virtualization. It starts empty; the machine is described over its API socket and
//! then started, so nothing of it is on a command line or in a file.

mod client;
mod requests;

use std::{path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use nexus_model::{ProcessIdentity, Requirement, vm::VmmKind};

use self::{
    client::Client,
    requests::{InstanceState, Request},
};
use super::{
    HostCheck, MachinePlan, MachineState, VmmDriver, VmmError, api_socket,
    kvm::Kvm,
    runtime_dir, sandbox,
    vmms::{Detection, Missing, VmmConfig, find_program},
};
use crate::{
    unit::{Launch, Log, Program, ProgramRole},
    vsock::Endpoint,
};

const WANTED: Requirement = Requirement::FIRECRACKER;

/// The driver, with the binary of this machine.
pub(super) struct Firecracker {
    program: PathBuf,
}

impl Firecracker {
    pub(super) fn detect(config: &VmmConfig, kvm: &Kvm) -> Detection {
        let program = find_program(config.firecracker.as_deref(), &WANTED);
        let check = match (&program, kvm) {
            (Err(reason), _) => HostCheck::missing(WANTED.name, WANTED.missing(reason)),
            (Ok(program), Kvm::Hardware) => HostCheck::found(WANTED.name, program.display().to_string()),
            (Ok(program), Kvm::Emulated) => HostCheck::missing(
                WANTED.name,
                format!(
                    "{} is there, but stock kernels hang in a KVM that emulates: it is taken only when asked for by name",
                    program.display()
                ),
            ),
            (Ok(program), Kvm::Absent { reason }) => {
                HostCheck::missing(WANTED.name, format!("{} is there, but needs KVM: {reason}", program.display()))
            }
        };
        let driver = match (program, kvm) {
            (Err(reason), _) => Err(Missing::Requirement(reason)),
            (Ok(_), Kvm::Absent { reason }) => Err(Missing::Requirement(reason.clone())),
            (Ok(program), Kvm::Hardware | Kvm::Emulated) => Ok(Arc::new(Self { program }) as Arc<dyn VmmDriver>),
        };
        Detection { kind: VmmKind::Firecracker, driver, automatic: *kvm == Kvm::Hardware, checks: vec![check] }
    }

    fn socket(plan: &MachinePlan) -> PathBuf {
        plan.runtime_file("api.sock")
    }

    async fn client(plan: &MachinePlan) -> Result<Client, VmmError> {
        let socket = Self::socket(plan);
        api_socket::wait(&socket, || Client::connect(&socket)).await
    }
}

impl VmmDriver for Firecracker {
    fn kind(&self) -> VmmKind {
        VmmKind::Firecracker
    }

    fn isolated(&self) -> bool {
        true
    }

    fn prepare(&self, plan: &MachinePlan) -> Result<Launch, VmmError> {
        let socket = Self::socket(plan);
        for socket in [&socket, &plan.vsock_socket()] {
            runtime_dir::check_socket(socket)?;
        }
        // What the API will be told later is checked before anything is started.
        requests::machine(plan)?;
        let kernel = requests::kernel(plan)?;

        let argv = vec![
            self.program.clone().into(),
            "--api-sock".into(),
            socket.clone().into(),
            "--id".into(),
            plan.vm.to_string().into(),
        ];
        let program = Program {
            role: ProgramRole::Vmm,
            argv,
            env: Vec::new(),
            ready_socket: Some(socket),
            log: Some(Log { path: plan.console_log.clone(), max_bytes: plan.console_max_bytes }),
        };
        let read_only = [kernel].into_iter().chain(plan.initrd.as_deref());
        let sandbox = sandbox::new(plan, [self.program.as_path()], read_only, ["/dev/kvm"]);
        runtime_dir::clear(&plan.runtime_dir)?;
        Ok(Launch {
            programs: vec![program],
            sandbox: Some(sandbox),
            working_directory: plan.runtime_dir.clone(),
            endpoint: Endpoint::Hybrid { socket: plan.vsock_socket() },
        })
    }

    fn boot<'a>(&'a self, plan: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async {
            let mut client = Self::client(plan).await?;
            // A boot that was interrupted goes on: until the start, every setting can be made again.
            if client.instance_state().await? != InstanceState::NotStarted {
                return Ok(());
            }
            for request in requests::machine(plan)? {
                client.send(request).await?;
            }
            client.send(Request::start()?).await
        })
    }

    fn pause<'a>(&'a self, plan: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async { Self::client(plan).await?.send(Request::pause()?).await })
    }

    fn resume<'a>(&'a self, plan: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async { Self::client(plan).await?.send(Request::resume()?).await })
    }

    fn state<'a>(
        &'a self,
        plan: &'a MachinePlan,
        _: &'a ProcessIdentity,
    ) -> BoxFuture<'a, Result<MachineState, VmmError>> {
        Box::pin(async {
            match Self::client(plan).await?.instance_state().await? {
                InstanceState::Running => Ok(MachineState::Running),
                InstanceState::Paused => Ok(MachineState::Paused),
                InstanceState::NotStarted => Err(VmmError::Broken { status: "not started".to_owned() }),
            }
        })
    }

    fn api_socket(&self, plan: &MachinePlan) -> Option<PathBuf> {
        Some(Self::socket(plan))
    }

    fn overhead_bytes(&self) -> u64 {
        // Its own promise is 5 MiB; page tables of the guest's memory and the vsock queues come on top.
        64 << 20
    }
}
