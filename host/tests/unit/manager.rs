//! A systemd user manager with a bus of its own, which is gone with everything that it started when it is dropped.

use std::{
    fs,
    os::unix::{fs::DirBuilderExt as _, net::UnixDatagram, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use nexus_host::process::{ProcessWatch, identify};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, chown, setgroups, setresgid, setresuid},
};
use tempfile::TempDir;

const PROGRAM: &str = "/lib/systemd/systemd";
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// It was up after 0.3 s on an idle machine.
const UP: Duration = Duration::from_secs(30);

#[path = "../../../tests/harness/required.rs"]
mod required;

pub(crate) struct Manager {
    folder: TempDir,
    child: Child,
    ready: UnixDatagram,
    group: String,
    owner: (Uid, Gid),
}

impl Manager {
    /// Starts it; none, with the reason printed, where that can't be.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_for(Uid::current(), Gid::current()).await
    }

    /// As [`start`](Self::start), for another user, to whom its home belongs.
    pub(crate) async fn start_for(user: Uid, group: Gid) -> Option<Self> {
        let owner = (user, group);
        if !Path::new(PROGRAM).exists() || !nix::unistd::geteuid().is_root() {
            required::not_run(&format!("needs {PROGRAM}, and root for a control group of its own"));
            return None;
        }
        // systemd looks whether this is there to tell whether it is at home.
        fs::create_dir_all("/run/systemd/system").unwrap();
        let folder = tempfile::Builder::new().prefix("nexus-manager-").tempdir().unwrap();
        let runtime = folder.path().join("run");
        fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
        let ready_path = folder.path().join("ready");
        let ready = UnixDatagram::bind(&ready_path).unwrap();

        let group = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut hierarchies = 0;
        for hierarchy in ["systemd", "unified", "."] {
            let hierarchy = Path::new(CONTROL_GROUPS).join(hierarchy);
            if hierarchy.join("cgroup.procs").exists() {
                fs::create_dir(hierarchy.join(&group)).unwrap();
                for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"] {
                    let file = hierarchy.join(&group).join(file);
                    // Which of them there are depends on the kind of hierarchy.
                    if file.exists() {
                        chown(&file, Some(user), Some(owner.1)).unwrap();
                    }
                }
                hierarchies += 1;
            }
        }
        assert!(hierarchies > 0, "no control groups for systemd");
        for path in [folder.path(), &runtime, &ready_path] {
            chown(path, Some(user), Some(owner.1)).unwrap();
        }
        ready.set_read_timeout(Some(UP)).unwrap();
        let child = spawn(folder.path(), &group, owner);
        let this = Self { folder, child, ready, group, owner };
        this.wait();
        Some(this)
    }

    /// Kills it and everything that it started, as the end of a session does.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for group in self.groups() {
            kill_group(&group);
        }
    }

    /// Ends it, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.folder.path(), &self.group, self.owner);
        self.wait();
    }

    /// Kills its bus, and with it every connection. The next one to connect has it started again.
    pub(crate) async fn kill_bus(&self) {
        let pid = self.property("dbus.service", "MainPID").await.parse().unwrap();
        let bus = identify(pid).unwrap().and_then(|bus| ProcessWatch::open(&bus).unwrap()).expect("the bus runs");
        bus.signal(Signal::SIGKILL).unwrap();
        tokio::time::timeout(UP, bus.exited()).await.expect("it ends soon").unwrap();
    }

    fn wait(&self) {
        let mut message = [0; 4096];
        loop {
            let length = self.ready.recv(&mut message).expect("systemd says that it is ready");
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return;
            }
        }
    }

    /// `HOME`.
    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    /// `XDG_RUNTIME_DIR`.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.home().join("run")
    }

    /// Where its bus is, on which it is.
    pub(crate) async fn bus(&self) -> zbus::Address {
        let address: zbus::Address = format!("unix:path={}", self.runtime_dir().join("bus").display()).parse().unwrap();
        let bus = zbus::connection::Builder::address(address.clone()).build().await.unwrap();
        // The first connection is what starts the bus, and the manager joins after that.
        let proxy = zbus::fdo::DBusProxy::new(&bus).await.unwrap();
        let name = "org.freedesktop.systemd1";
        let mut joined = proxy.receive_name_owner_changed_with_args(&[(0, name)]).await.unwrap();
        if !proxy.name_has_owner(name.try_into().unwrap()).await.unwrap() {
            tokio::time::timeout(UP, joined.next()).await.expect("the manager joins its bus").unwrap();
        }
        address
    }

    /// Starts a transient service, as somebody else may.
    pub(crate) async fn start_service(&self, unit: &str, argv: &[&str]) {
        let mut run = tokio::process::Command::new("systemd-run");
        run.args(["--user", "--quiet", "--unit", unit]).args(argv).env("XDG_RUNTIME_DIR", self.runtime_dir());
        assert!(run.status().await.unwrap().success());
    }

    /// A property of a unit, as systemctl shows it.
    pub(crate) async fn property(&self, unit: &str, property: &str) -> String {
        let mut show = tokio::process::Command::new("systemctl");
        show.args(["--user", "show", "--value", "--property", property, unit]);
        let output = show.env("XDG_RUNTIME_DIR", self.runtime_dir()).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The control group of what it started, in every hierarchy that it uses.
    fn groups(&self) -> Vec<PathBuf> {
        let mut groups = vec![Path::new(CONTROL_GROUPS).join(&self.group)];
        for hierarchy in fs::read_dir(CONTROL_GROUPS).into_iter().flatten().flatten() {
            groups.push(hierarchy.path().join(&self.group));
        }
        groups.retain(|group| group.is_dir());
        groups
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let deadline = Instant::now() + UP;
        while self.groups().iter().any(|group| !remove_group(group)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Executes systemd in `folder`, in control groups that are there.
fn spawn(folder: &Path, group: &str, (uid, gid): (Uid, Gid)) -> Child {
    let procs = |hierarchy| Path::new(CONTROL_GROUPS).join(hierarchy).join(group).join("cgroup.procs");
    let joins: Vec<_> = ["systemd", "unified", "."].into_iter().map(procs).filter(|procs| procs.exists()).collect();
    let mut command = Command::new(PROGRAM);
    command
        .args(["--user", "--unit=basic.target", "--log-target=null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        // Its default, but dbus-daemon looks the home up in passwd(5).
        .env("XDG_DATA_HOME", folder.join(".local/share"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        .env("NOTIFY_SOCKET", folder.join("ready"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: writes to files and a prctl, with paths that were made before the fork.
    unsafe {
        command.pre_exec(move || {
            joins.iter().try_for_each(|procs| fs::write(procs, "0"))?;
            if !uid.is_root() {
                setgroups(&[])?;
                setresgid(gid, gid, gid)?;
                setresuid(uid, uid, uid)?;
            }
            // It stops all that it started when it is asked to end.
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            Ok(())
        });
    }
    command.spawn().unwrap()
}

/// Kills what is in a control group and removes it; false when something is left.
fn remove_group(group: &Path) -> bool {
    kill_group(group);
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

fn kill_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            kill_group(&entry.path());
        }
    }
    for process in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(process) = process.parse() {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
}
