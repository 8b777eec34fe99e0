//! What is broken and what is looked at: a nexusd with everything around it, and its manager.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command as Program, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nexus_dbus::client::{JobProxy, ManagerProxy};
use nexus_tests::{GuestParts, Home, TestBus, daemon_command, program};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{process::Command, sync::watch, task::JoinHandle};
use zbus::{Connection, proxy::CacheProperties};

use crate::{PATIENCE, Vmm};

/// Size of the disk that everything lies on.
const DISK_BYTES: u64 = 512 << 20;

/// What busybox does as process 1.
const INITTAB: &str = "::sysinit:/bin/mount -t proc proc /proc\n::sysinit:/bin/mount -t tmpfs run /run\n\
                       ::respawn:/sbin/guest-agent\n";

/// A small file system of its own, on a loop device.
pub(crate) struct SmallDisk {
    folder: TempDir,
    image: PathBuf,
}

impl SmallDisk {
    /// A new one, mounted where only this process and its children see it.
    fn new(bytes: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("nxd").tempdir_in("/tmp").expect("a folder");
        let image = folder.path().with_extension("img");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
        let made = Program::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status().expect("mkfs.ext4");
        assert!(made.success());
        let mounted = Program::new("mount").args(["-o", "loop"]).arg(&image).arg(folder.path()).status();
        assert!(mounted.expect("mount").success(), "a loop device can be mounted");
        // The file lives on in the loop device alone.
        Self { folder, image }
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) -> io::Result<()> {
        let free = nix::sys::statvfs::statvfs(self.folder.path())?;
        let file = File::create(self.ballast())?;
        let bytes = free.blocks_free() * free.fragment_size();
        // All of it at once may be more than there is; then piece by piece.
        let mut piece = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut at = 0;
        while piece >= 4096 {
            match nix::fcntl::posix_fallocate(&file, at, piece) {
                Ok(()) => at += piece,
                Err(_) => piece /= 2,
            }
        }
        Ok(())
    }

    /// There is room again.
    pub(crate) fn free(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.image);
    }
}

/// What the VMM's program does when it is started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    Well,
    /// Ends at once.
    Dies,
    /// Does nothing.
    Hangs,
    /// Stays when it should end.
    Deaf,
}

/// nexusd, its folders, its bus, and what a service manager does for it.
pub(crate) struct World {
    pub(crate) vmm: Vmm,
    pub(crate) bus: Arc<TestBus>,
    pub(crate) bus_is_up: AtomicBool,
    pid: watch::Receiver<Option<i32>>,
    wanted: Arc<AtomicBool>,
    /// How often nexusd was started.
    pub(crate) starts: Arc<AtomicUsize>,
    /// Processes that got the id of a VMM that had ended.
    pub(crate) strangers: AtomicUsize,
    /// Those of them that were killed.
    pub(crate) strangers_harmed: AtomicUsize,
    manager: Option<JoinHandle<()>>,
    scratch: TempDir,
    /// A script that executes the VMM, or does not.
    vmm_program: PathBuf,
    // Dropped in this order: processes, then the disk that they are on.
    pub(crate) home: Arc<Home>,
    pub(crate) disk: SmallDisk,
}

impl World {
    pub(crate) async fn new(vmm: Vmm) -> Self {
        let disk = SmallDisk::new(if vmm == Vmm::Qemu { 4 * DISK_BYTES } else { DISK_BYTES });
        let home = Arc::new(Home::new_in(disk.folder.path()));
        // What must not be full: logs of the test itself.
        let scratch = tempfile::Builder::new().prefix("nxc").tempdir_in("/tmp").expect("a folder");
        let programs = scratch.path().join("bin");
        fs::create_dir(&programs).expect("a folder");
        for name in ["nexusd-failpoints", "nexus-shim"] {
            let to = programs.join(name);
            fs::hard_link(program(name), &to).or_else(|_| fs::copy(program(name), &to).map(drop)).expect("a program");
        }
        let (vmm_program, qemu) = match vmm {
            // Which lies beside nexusd.
            Vmm::Process => (programs.join("guest-agent"), "null".to_owned()),
            Vmm::Qemu => (programs.join("qemu"), programs.join("qemu").display().to_string()),
        };
        home.configure(&format!(
            "vmm:\n  allow-process: true\n  qemu: {qemu}\nvm:\n  heartbeat-sec: 1\n  stop-timeout-sec: 2\n"
        ));
        let bus = Arc::new(TestBus::start());
        let (pid_sender, pid) = watch::channel(None);
        let mut world = Self {
            vmm,
            bus,
            bus_is_up: AtomicBool::new(true),
            pid,
            wanted: Arc::new(AtomicBool::new(true)),
            starts: Arc::default(),
            strangers: AtomicUsize::default(),
            strangers_harmed: AtomicUsize::default(),
            manager: None,
            scratch,
            vmm_program,
            home,
            disk,
        };
        world.set_mood(Mood::Well);
        world.set_failpoints("");
        let (home, address) = (world.home.clone(), world.bus.address());
        let (program, log, failpoints) =
            (programs.join("nexusd-failpoints"), world.log_file(), world.failpoints_file());
        let command = {
            let failpoints = failpoints.clone();
            move || {
                let mut command = daemon_command(&program, &home, &address, &log);
                command.env("NEXUS_FAILPOINTS", &failpoints).env("NEXUS_LOG", "info");
                command
            }
        };
        let (wanted, starts) = (world.wanted.clone(), world.starts.clone());
        world.manager = Some(tokio::spawn(manage(command, failpoints, wanted, starts, pid_sender)));
        world
    }

    fn failpoints_file(&self) -> PathBuf {
        self.scratch.path().join("failpoints")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.scratch.path().join("nexusd.log")
    }

    /// Says what the VMM's program does from now on when it is started.
    pub(crate) fn set_mood(&self, mood: Mood) {
        let vmm = match self.vmm {
            Vmm::Process => program("guest-agent").display().to_string(),
            Vmm::Qemu => "/usr/bin/qemu-system-x86_64".to_owned(),
        };
        let script = match mood {
            Mood::Well => format!("exec {vmm} \"$@\""),
            Mood::Dies => "exit 3".to_owned(),
            Mood::Hangs => "exec sleep 1000".to_owned(),
            // A keeper that is killed takes the VMM along, and nothing that the VMM has started.
            Mood::Deaf => format!("trap '' TERM\nsetpriv --pdeathsig KILL {vmm} \"$@\"\nexec sleep 1000"),
        };
        let unfinished = self.vmm_program.with_extension("new");
        fs::write(&unfinished, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).expect("a script");
        fs::rename(unfinished, &self.vmm_program).expect("a script");
    }

    /// What fails where, from the next moment on.
    pub(crate) fn set_failpoints(&self, lines: &str) {
        fs::write(self.failpoints_file(), lines).expect("a file");
        if let Some(pid) = *self.pid.borrow() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGUSR1);
        }
    }

    /// What nexusd's heap holds, in bytes.
    pub(crate) async fn heap_bytes(&self) -> i64 {
        let file = self.failpoints_file().with_extension("heap");
        let _ = fs::remove_file(&file);
        self.set_failpoints("");
        let written = async {
            loop {
                if let Ok(text) = fs::read_to_string(&file) {
                    return text.parse().expect("a number");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.expect("nexusd obeys")
    }

    /// nexusd's process.
    pub(crate) fn pid(&self) -> Option<i32> {
        *self.pid.borrow()
    }

    /// Waits until that process is nexusd no more.
    pub(crate) async fn gone(&self, pid: i32) {
        let mut current = self.pid.clone();
        let gone = current.wait_for(|current| *current != Some(pid));
        tokio::time::timeout(PATIENCE, gone).await.expect("nexusd ends").expect("it is managed");
    }

    pub(crate) fn signal_daemon(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Keeps nexusd from being started again, or not.
    pub(crate) fn want_daemon(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// A client of the bus, as soon as there is one.
    pub(crate) async fn connect(&self) -> Connection {
        loop {
            let address = self.bus.address();
            if let Ok(builder) = zbus::connection::Builder::address(address.as_str()).build().await {
                return builder;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Imports what VMs are made from.
    pub(crate) async fn furnish(&self) {
        self.bus.wait_for_nexus().await;
        let client = self.connect().await;
        let manager =
            ManagerProxy::builder(&client).cache_properties(CacheProperties::No).build().await.expect("a proxy");
        let mut jobs = Vec::new();
        let folder = self.home.user().join("root");
        match self.vmm {
            Vmm::Process => {
                fs::create_dir_all(folder.join("etc")).expect("a folder");
                fs::write(folder.join("etc/hostname"), "tiny\n").expect("a file");
            }
            Vmm::Qemu => {
                let parts = GuestParts::find().expect("the parts of a guest: make guest");
                copy_tree(&parts.rootfs, &folder);
                // An agent can only be killed where it is not process 1.
                let init = folder.join("sbin/init");
                fs::remove_file(&init).expect("an init");
                std::os::unix::fs::symlink("/bin/busybox", init).expect("a link");
                fs::write(folder.join("etc/inittab"), INITTAB).expect("a file");
                for (kind, from) in [("kernel", parts.kernel), ("initrd", parts.initrd)] {
                    let to = self.home.user().join(kind);
                    fs::copy(from, &to).expect("a copy");
                    let options = [("version", "1".into())].into();
                    jobs.push(manager.import_asset(kind, &to.to_string_lossy(), options).await.expect("an import"));
                }
            }
        }
        let options = [].into();
        jobs.push(manager.import_image(&folder.to_string_lossy(), "base", options).await.expect("an import"));
        for job in jobs {
            let job = JobProxy::builder(&client).path(job).build().await.expect("a proxy");
            tokio::time::timeout(PATIENCE, job.wait()).await.expect("the job ends").expect("the import succeeds");
        }
    }

    /// Ends nexusd for good.
    pub(crate) async fn end(&mut self) {
        self.want_daemon(false);
        self.signal_daemon(Signal::SIGCONT);
        self.signal_daemon(Signal::SIGKILL);
        let mut pid = self.pid.clone();
        let gone = pid.wait_for(Option::is_none);
        tokio::time::timeout(PATIENCE, gone).await.expect("nexusd can be killed").expect("it is managed");
        if let Some(manager) = self.manager.take() {
            manager.abort();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.want_daemon(false);
        if let Some(manager) = self.manager.take() {
            manager.abort();
        }
        self.signal_daemon(Signal::SIGKILL);
    }
}

/// As a service manager does with Restart=always: whatever ends is started again.
async fn manage(
    command: impl Fn() -> Command,
    failpoints: PathBuf,
    wanted: Arc<AtomicBool>,
    starts: Arc<AtomicUsize>,
    pid: watch::Sender<Option<i32>>,
) {
    loop {
        while !wanted.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut child = command().spawn().expect("nexusd can be executed");
        starts.fetch_add(1, Ordering::SeqCst);
        pid.send_replace(child.id().and_then(|pid| i32::try_from(pid).ok()));
        let _: io::Result<ExitStatus> = child.wait().await;
        pid.send_replace(None);
        // A place at which it died is passed the next time.
        let _ = fs::write(&failpoints, "");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let copied = Program::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(copied.success());
}
