//! QEMU's `microvm` machine, with KVM where the CPU has hardware virtualization and plain emulation elsewhere.
//!
//! The guest's vsock goes through the kernel's vhost-vsock where this machine has it, and through the sidecar
//! `vhost-device-vsock` (vhost-user on one side, the hybrid protocol on the other) where it has not. QEMU does not take
//! up with a sidecar again that went away: the two live and die together.

mod arguments;
mod qmp;
mod tsc;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use nexus_model::{ProcessIdentity, Requirement, vm::VmmKind};

use self::arguments::{Acceleration, Arguments, Vsock};
pub(crate) use self::qmp::Qmp;
use super::{
    HostCheck, MachinePlan, MachineState, VmmDriver, VmmError, api_socket,
    kvm::{self, Kvm},
    runtime_dir, sandbox,
    vmms::{Detection, Missing, VmmConfig, find_program},
};
use crate::{
    unit::{Launch, Log, Program, ProgramRole},
    vsock::Endpoint,
};

const WANTED: Requirement = Requirement::QEMU;
const SIDECAR: Requirement = Requirement::SIDECAR;
const VHOST_VSOCK: &str = "/dev/vhost-vsock";
const MIB: u64 = 1 << 20;
/// The sidecar says little, but a guest can make it complain.
const SIDECAR_LOG_BYTES: u64 = 64 * 1024;
/// How long the sidecar has to take the rings again that it gave up for a pause, which QEMU tells it and does not wait for.
/// `vhost-device-vsock` 0.3.0 ends the thread that serves them when something comes for the guest before, and with it vsock.
const SIDECAR_GOES_ON: Duration = Duration::from_millis(250);

/// The driver, with what this machine has for it.
pub(super) struct Qemu {
    program: PathBuf,
    acceleration: Acceleration,
    vsock: VsockHost,
}

/// What stands behind a guest's vsock device.
enum VsockHost {
    Kernel,
    Sidecar { program: PathBuf },
}

impl Qemu {
    pub(super) fn detect(config: &VmmConfig, kvm: &Kvm) -> Detection {
        let program = find_program(config.qemu.as_deref(), &WANTED);
        let sidecar = find_program(config.vhost_device_vsock.as_deref(), &SIDECAR);
        let kernel_vsock = kvm::opens(VHOST_VSOCK);
        let checks = vec![
            match &program {
                Ok(program) => HostCheck::found(WANTED.name, program.display().to_string()),
                Err(reason) => HostCheck::missing(WANTED.name, WANTED.missing(reason)),
            },
            if kernel_vsock {
                HostCheck::found("vhost-vsock", format!("{VHOST_VSOCK} opens"))
            } else {
                HostCheck::missing(
                    "vhost-vsock",
                    format!(
                        "{VHOST_VSOCK} cannot be opened: load the module vhost_vsock, or leave it to {}",
                        SIDECAR.name
                    ),
                )
            },
            match &sidecar {
                Ok(sidecar) => HostCheck::found(SIDECAR.name, sidecar.display().to_string()),
                Err(reason) if kernel_vsock => {
                    HostCheck::missing(SIDECAR.name, format!("{reason}; it is not needed here"))
                }
                Err(reason) => HostCheck::missing(SIDECAR.name, SIDECAR.missing(reason)),
            },
        ];
        Detection {
            kind: VmmKind::Qemu,
            driver: Self::driver(program, kernel_vsock, sidecar, kvm),
            automatic: true,
            checks,
        }
    }

    fn driver(
        program: Result<PathBuf, String>,
        kernel_vsock: bool,
        sidecar: Result<PathBuf, String>,
        kvm: &Kvm,
    ) -> Result<Arc<dyn VmmDriver>, Missing> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Missing::Requirement("QEMU has its microvm machine on x86-64 only".to_owned()));
        }
        let program = program.map_err(Missing::Requirement)?;
        let vsock = if kernel_vsock {
            VsockHost::Kernel
        } else {
            VsockHost::Sidecar { program: sidecar.map_err(Missing::Requirement)? }
        };
        let acceleration = match kvm {
            Kvm::Hardware => Acceleration::Kvm,
            Kvm::Emulated | Kvm::Absent { .. } => Acceleration::Emulation { tsc_khz: tsc::frequency_khz() },
        };
        Ok(Arc::new(Self { program, acceleration, vsock }))
    }

    fn qmp_socket(plan: &MachinePlan) -> PathBuf {
        plan.runtime_file("qmp.sock")
    }

    /// Where the sidecar listens until the guest's driver is ready.
    fn closed_socket(plan: &MachinePlan) -> PathBuf {
        plan.runtime_file("vsock.closed")
    }

    async fn qmp(plan: &MachinePlan) -> Result<Qmp, VmmError> {
        let socket = Self::qmp_socket(plan);
        api_socket::wait(&socket, || Qmp::connect(&socket)).await
    }

    async fn status(plan: &MachinePlan) -> Result<MachineState, VmmError> {
        let status = Self::qmp(plan).await?.query_status().await?;
        match status.as_str() {
            "running" => Ok(MachineState::Running),
            "paused" => Ok(MachineState::Paused),
            _ => Err(VmmError::Broken { status }),
        }
    }
}

impl VmmDriver for Qemu {
    fn kind(&self) -> VmmKind {
        VmmKind::Qemu
    }

    fn isolated(&self) -> bool {
        true
    }

    fn prepare(&self, plan: &MachinePlan) -> Result<Launch, VmmError> {
        let qmp = Self::qmp_socket(plan);
        let vhost = plan.runtime_file("vhost.sock");
        let config = plan.runtime_file("qemu.conf");
        let vsock = match &self.vsock {
            VsockHost::Kernel => Vsock::Kernel,
            VsockHost::Sidecar { .. } => Vsock::VhostUser { socket: &vhost },
        };
        let arguments = Arguments { plan, acceleration: self.acceleration, vsock, qmp: &qmp, config: &config };
        let config_text = arguments.config_file()?;
        let argv = arguments.argv(&self.program)?;
        let closed = Self::closed_socket(plan);
        for socket in [&qmp, &vhost, &closed] {
            runtime_dir::check_socket(socket)?;
        }

        let mut programs = Vec::new();
        let mut binaries = vec![self.program.as_path()];
        let mut devices = Vec::new();
        let endpoint = match &self.vsock {
            VsockHost::Kernel => {
                devices.push(VHOST_VSOCK);
                Endpoint::Kernel { cid: plan.cid }
            }
            VsockHost::Sidecar { program } => {
                binaries.push(program);
                programs.push(Program {
                    role: ProgramRole::VsockSidecar,
                    argv: arguments::sidecar_argv(program, plan, &vhost, &closed)?,
                    env: Vec::new(),
                    ready_socket: Some(vhost.clone()),
                    log: Some(Log { path: plan.console_log.with_extension("vsock.log"), max_bytes: SIDECAR_LOG_BYTES }),
                });
                Endpoint::Sidecar { socket: plan.vsock_socket(), closed, monitor: qmp.clone() }
            }
        };
        if self.acceleration == Acceleration::Kvm {
            devices.push("/dev/kvm");
        }
        programs.push(Program {
            role: ProgramRole::Vmm,
            argv,
            env: Vec::new(),
            ready_socket: Some(qmp),
            log: Some(Log { path: plan.console_log.clone(), max_bytes: plan.console_max_bytes }),
        });

        let read_only = [plan.kernel.as_path()].into_iter().chain(plan.initrd.as_deref());
        let sandbox = sandbox::new(plan, binaries, read_only, devices);
        runtime_dir::clear(&plan.runtime_dir)?;
        runtime_dir::write(&config, &config_text)?;
        Ok(Launch { programs, sandbox: Some(sandbox), working_directory: plan.runtime_dir.clone(), endpoint })
    }

    fn boot<'a>(&'a self, plan: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        // QEMU starts the virtual CPUs by itself, and answers only once it has built the machine.
        Box::pin(async { Self::status(plan).await.map(drop) })
    }

    fn pause<'a>(&'a self, plan: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async { Self::qmp(plan).await?.stop().await })
    }

    fn resume<'a>(&'a self, plan: &'a MachinePlan, _: &'a ProcessIdentity) -> BoxFuture<'a, Result<(), VmmError>> {
        Box::pin(async {
            Self::qmp(plan).await?.cont().await?;
            tokio::time::sleep(SIDECAR_GOES_ON).await;
            Ok(())
        })
    }

    fn state<'a>(
        &'a self,
        plan: &'a MachinePlan,
        _: &'a ProcessIdentity,
    ) -> BoxFuture<'a, Result<MachineState, VmmError>> {
        Box::pin(Self::status(plan))
    }

    fn api_socket(&self, plan: &MachinePlan) -> Option<PathBuf> {
        Some(Self::qmp_socket(plan))
    }

    fn overhead_bytes(&self) -> u64 {
        match self.acceleration {
            Acceleration::Kvm => 128 * MIB,
            Acceleration::Emulation { .. } => 192 * MIB + arguments::TRANSLATION_CACHE_MIB * MIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::plan::tests::plan;

    fn launch(vsock: VsockHost) -> (MachinePlan, Launch) {
        let folder = tempfile::tempdir().unwrap();
        let plan = MachinePlan { runtime_dir: folder.path().to_owned(), ..plan() };
        let qemu =
            Qemu { program: "/usr/bin/qemu".into(), acceleration: Acceleration::Emulation { tsc_khz: None }, vsock };
        let launch = qemu.prepare(&plan).unwrap();
        (plan, launch)
    }

    #[test]
    fn a_launch_says_how_its_guest_is_reached() {
        let (plan, launch) = launch(VsockHost::Kernel);
        assert_eq!(launch.endpoint, Endpoint::Kernel { cid: plan.cid });
        assert_eq!(launch.programs.len(), 1);

        let (plan, launch) = self::launch(VsockHost::Sidecar { program: "/usr/bin/vhost-device-vsock".into() });
        let [sidecar, vmm] = &launch.programs[..] else { panic!("{:?}", launch.programs) };
        let Endpoint::Sidecar { socket, closed, monitor } = &launch.endpoint else { panic!("{:?}", launch.endpoint) };
        assert_eq!(*socket, plan.vsock_socket());
        let argv = |program: &Program| program.argv.iter().map(|part| part.to_string_lossy()).collect::<String>();
        assert!(argv(sidecar).contains(closed.to_str().unwrap()), "{sidecar:?}");
        assert!(argv(vmm).contains(monitor.to_str().unwrap()), "{vmm:?}");
    }
}
