//! A real VM: QEMU without hardware virtualization, with vsock through `vhost-device-vsock`.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command as Process, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nexus_host::{
    agent::{AgentClient, AgentError, AgentEvents},
    vsock::Endpoint,
};
use nexus_protocol::Welcome;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

#[path = "../../../tests/harness/required.rs"]
mod required;

/// Ten times what a VM took to come up on two busy cores.
pub(crate) const VM_PATIENCE: Duration = Duration::from_secs(240);

/// What `tools/guest` makes.
struct Parts {
    kernel: PathBuf,
    initrd: PathBuf,
    rootfs: PathBuf,
    vsock_device: PathBuf,
}

/// Held by the VM that runs: an emulated CPU takes a real one, and the guest's clocks take it ill to share.
static TURN: Mutex<()> = Mutex::new(());

impl Parts {
    /// None, with the reason on standard error, when they were not made, unless every test has to run.
    fn find() -> Option<Self> {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("build");
        let parts = Self {
            kernel: build.join("guest/vmlinuz"),
            initrd: build.join("guest/initrd.img"),
            rootfs: build.join("guest/rootfs"),
            vsock_device: build.join("tools/bin/vhost-device-vsock"),
        };
        let Some(missing) =
            [&parts.kernel, &parts.initrd, &parts.rootfs, &parts.vsock_device].into_iter().find(|part| !part.exists())
        else {
            return Some(parts);
        };
        required::not_run(&format!("{} is not there: run `make guest`", missing.display()));
        None
    }
}

/// Tells the guest how fast its time stamp counter is, which it could not measure while the host is busy.
fn counter() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let megahertz = cpus.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(": "));
    let kilohertz = megahertz.and_then(|(_, number)| number.parse::<f64>().ok()).map(|number| number * 1000.0);
    kilohertz.map(|number| format!("tsc=reliable tsc_early_khz={number:.0}")).unwrap_or_default()
}

/// Where the vsock device listens until the guest's driver is ready.
const CLOSED: &str = "vsock.closed";
/// QEMU's monitor.
const MONITOR: &str = "monitor.sock";

/// A VM and its vsock device, killed when dropped.
pub(crate) struct Vm {
    folder: TempDir,
    device: Child,
    qemu: Child,
    pub(crate) started: Instant,
    _turn: MutexGuard<'static, ()>,
}

impl Vm {
    /// Starts one with more kernel arguments; `None`, with the reason on standard error, where it can't.
    pub(crate) fn start(kernel_args: &str) -> Option<Self> {
        let parts = Parts::find()?;
        Some(Self::start_with(&parts, kernel_args))
    }

    /// The same with busybox as process 1, which starts the agent as a service and shows its shutdown on the console.
    pub(crate) fn start_under_busybox() -> Option<Self> {
        let mut parts = Parts::find()?;
        let folder = TempDir::new().unwrap();
        let rootfs = folder.path().join("rootfs");
        assert!(Process::new("cp").arg("-a").arg(&parts.rootfs).arg(&rootfs).status().unwrap().success());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("dist/guest/busybox/inittab");
        let inittab = std::fs::read_to_string(shipped).unwrap() + "::shutdown:/bin/echo the services end\n";
        std::fs::write(rootfs.join("etc/inittab"), inittab).unwrap();
        parts.rootfs = rootfs;
        Some(Self::start_with(&parts, "init=/linuxrc"))
    }

    fn start_with(parts: &Parts, kernel_args: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let disk = path("disk");
        File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        let made =
            Process::new("/sbin/mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&parts.rootfs).arg(&disk).status();
        assert!(made.unwrap().success());

        let (vhost, hybrid) = (path("vhost"), path(CLOSED));
        let device = Process::new(&parts.vsock_device)
            .arg("--vm")
            .arg(format!("guest-cid=3,tx-buffer-size=262144,socket={},uds-path={}", vhost.display(), hybrid.display()))
            .stderr(File::create(path("device.log")).unwrap())
            .spawn()
            .unwrap();
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        while !vhost.exists() {
            assert!(std::time::Instant::now() < limit, "the vsock device makes no socket");
            std::thread::sleep(Duration::from_millis(2));
        }
        let console = File::create(path("console")).unwrap();
        let qemu = Process::new("qemu-system-x86_64")
            .args([
                "-M",
                "microvm,acpi=on,memory-backend=mem",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-m",
                "128",
            ])
            .args(["-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-nodefaults", "-no-user-config"])
            .args(["-nographic", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&parts.kernel)
            .arg("-initrd")
            .arg(&parts.initrd)
            .arg("-append")
            .arg(format!("console=ttyS0 reboot=t panic=1 quiet root=/dev/vda rw {} {kernel_args}", counter()))
            .arg("-drive")
            .arg(format!("id=root,file={},format=raw,if=none", disk.display()))
            .args(["-device", "virtio-blk-device,drive=root", "-device", "virtio-rng-device"])
            .arg("-chardev")
            .arg(format!("socket,id=vsock,path={}", vhost.display()))
            .args(["-device", "vhost-user-vsock-device,id=vsock,chardev=vsock"])
            .arg("-chardev")
            .arg(format!("socket,id=monitor,server=on,wait=off,path={}", path(MONITOR).display()))
            .args(["-mon", "chardev=monitor,mode=control"])
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn();
        Self { folder, device, qemu: qemu.unwrap(), started: Instant::now(), _turn: turn }
    }

    /// What the guest has written to its console so far.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("console")).unwrap()).into_owned()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let path = |name: &str| self.folder.path().join(name);
        Endpoint::Sidecar { socket: path("vsock.sock"), closed: path(CLOSED), monitor: path(MONITOR) }
    }

    /// Connects as soon as the agent answers.
    pub(crate) async fn connect(&mut self, token: Option<&str>) -> (AgentClient, Welcome, AgentEvents) {
        let deadline = self.started + VM_PATIENCE;
        loop {
            match AgentClient::connect(&self.endpoint(), token, VM_PATIENCE).await {
                Ok(connected) => return connected,
                Err(AgentError::Unreachable(error)) => {
                    let ended = self.qemu.try_wait().unwrap();
                    let given_up = ended.is_some() || Instant::now() > deadline;
                    assert!(!given_up, "{error}, QEMU: {ended:?}, console:\n{}", self.console());
                    sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error:?}, console:\n{}", self.console()),
            }
        }
    }

    /// Has QEMU's monitor do something: see `docs/interop/qmp-spec.txt` of QEMU.
    pub(crate) fn monitor(&self, command: &str) {
        let stream = UnixStream::connect(self.folder.path().join(MONITOR)).unwrap();
        stream.set_read_timeout(Some(VM_PATIENCE)).unwrap();
        let mut lines = BufReader::new(&stream).lines();
        for command in ["qmp_capabilities", command] {
            writeln!(&stream, "{{\"execute\":\"{command}\"}}").unwrap();
            let done = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"return\""));
            assert!(done.is_some(), "QEMU does not {command}");
        }
    }

    /// Waits for QEMU's end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + VM_PATIENCE;
        loop {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the VM does not end, console:\n{}", self.console());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for child in [&mut self.qemu, &mut self.device] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
