//! What `make install` puts there, in the hands of a real systemd user manager.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and says why it can't"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use futures_util::StreamExt as _;
use nexus_actors::catalogue;
use nexus_dbus::SERVICE;
use nexus_host::process::{ProcessWatch, Signal, identify};
use nexus_model::ProcessIdentity;
use nexus_tests::{PATIENCE, not_run, program};
use nix::unistd::User;
use serde_json::Value;
use tokio::{process::Command, time::timeout};
use zbus::{Connection, connection::Builder, fdo::DBusProxy};

// The tests of units have a user manager already, and need more of it.
#[allow(dead_code)]
#[path = "../host/tests/unit/manager.rs"]
mod manager;

use manager::Manager;

const UNIT: &str = "nexus.service";

/// What `make install` puts below PREFIX.
const INSTALLED: [&str; 9] = [
    "bin/nexusctl",
    "bin/nexusd",
    "lib/systemd/catalog/nexus.catalog",
    "libexec/nexus/guest-agent",
    "libexec/nexus/nexus-shim",
    "libexec/nexus/vhost-device-vsock",
    "share/dbus-1/services/org.workfort.Nexus1.service",
    "share/systemd/user/nexus.service",
    "share/systemd/user/nexus.slice",
];

/// `make` with the programs that these tests were built beside; none, with the reason printed, where a part is missing
/// that `make test` makes before it runs the tests.
fn make<const N: usize>(arguments: [&str; N]) -> Option<Command> {
    let programs = program("nexusd").parent().unwrap().to_owned();
    let target = programs.parent().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let agent = target.join("guest/x86_64-unknown-linux-gnu/release/guest-agent");
    let device = repository.join("build/tools/bin/vhost-device-vsock");
    if let Some(missing) = [agent, device].into_iter().find(|part| !part.is_file()) {
        not_run(&format!("{} is missing: run `make guest`", missing.display()));
        return None;
    }
    let mut make = Command::new("make");
    make.arg("--no-print-directory")
        .args(arguments)
        .arg(format!("PROFILE={}", programs.file_name().unwrap().to_str().unwrap()))
        .current_dir(repository)
        .env("CARGO_TARGET_DIR", target)
        // Its own are for the make that may run these tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    Some(make)
}

/// Runs a command that must succeed, and has what it wrote.
async fn ok(command: &mut Command) -> String {
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let Output { status, stdout, stderr } = output.expect("it ends soon").unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{:?} {status}:\n{out}{err}", command.as_std());
    out.into_owned()
}

/// Every file below a folder, by its path from there.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    fn list(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                list(root, &entry.path(), found);
            } else {
                found.insert(entry.path().strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    list(folder, folder, &mut found);
    found
}

#[tokio::test]
async fn a_package_holds_what_is_installed_and_names_its_final_place() {
    let Some(mut install) = make(["install", "PREFIX=/usr"]) else { return };
    let root = tempfile::tempdir().unwrap();
    let destination = format!("DESTDIR={}", root.path().display());
    ok(install.arg(&destination)).await;
    let usr = root.path().join("usr");
    assert_eq!(files(root.path()), INSTALLED.iter().map(|file| Path::new("usr").join(file)).collect());
    for file in ["share/systemd/user/nexus.service", "share/dbus-1/services/org.workfort.Nexus1.service"] {
        let text = fs::read_to_string(usr.join(file)).unwrap();
        assert!(text.lines().any(|line| line.ends_with("=/usr/bin/nexusd")), "{text}");
        assert!(!text.contains(root.path().to_str().unwrap()), "{text}");
    }
    // Into a database below the same root, which goes with it.
    let journal = |argument: &str| {
        let mut journalctl = Command::new("journalctl");
        journalctl.arg(format!("--root={}", root.path().display())).arg(argument);
        journalctl
    };
    fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
    ok(&mut journal("--update-catalog")).await;
    let entries = ok(&mut journal("--list-catalog")).await;
    assert!(entries.contains(&format!("{} Nexus: ", catalogue::VM_GAVE_UP)), "{entries}");
    fs::remove_dir_all(root.path().join("var")).unwrap();
    ok(make(["uninstall", "PREFIX=/usr"]).unwrap().arg(&destination)).await;
    assert_eq!(files(root.path()), BTreeSet::new());
}

/// Who uses it, logged in with a systemd user manager: an ordinary user, for whom units are confined in other ways than for
/// root. Where this is in the environment, this process is theirs.
const SESSION: &str = "NEXUS_TEST_SESSION";

/// A session of the user, as seen from within.
struct Session {
    home: PathBuf,
    bus: Connection,
}

impl Session {
    /// The one that this process is in.
    async fn own() -> Option<Self> {
        let home = PathBuf::from(env::var_os(SESSION)?);
        let address = format!("unix:path={}", home.join("run/bus").display());
        let bus = Builder::address(address.as_str()).build().await.unwrap();
        Some(Self { home, bus })
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", self.home.join("run/bus").display()))
            .env("XDG_RUNTIME_DIR", self.home.join("run"));
        command
    }

    async fn systemctl(&self, arguments: &[&str]) {
        ok(self.command("systemctl").arg("--user").args(arguments)).await;
    }

    async fn nexusctl(&self, arguments: &[&str]) -> String {
        ok(self.command(self.home.join(".local/bin/nexusctl")).args(arguments)).await
    }

    async fn property(&self, unit: &str, name: &str) -> String {
        let mut show = self.command("systemctl");
        ok(show.args(["--user", "show", "--value", "--property", name, unit])).await.trim_end().to_owned()
    }

    async fn properties<const N: usize>(&self, unit: &str, names: [&str; N]) -> [String; N] {
        let mut values = names.map(|_| String::new());
        for (name, value) in names.into_iter().zip(&mut values) {
            *value = self.property(unit, name).await;
        }
        values
    }

    /// nexusd's process.
    async fn daemon(&self) -> ProcessIdentity {
        let pid = self.property(UNIT, "MainPID").await.parse().unwrap();
        identify(pid).unwrap().expect("nexusd runs")
    }

    /// Waits until Nexus' name is as wanted, and has its owner.
    async fn owner(&self, is_wanted: impl Fn(Option<&str>) -> bool) -> Option<String> {
        let bus = DBusProxy::new(&self.bus).await.unwrap();
        let mut changes = bus.receive_name_owner_changed_with_args(&[(0, SERVICE)]).await.unwrap();
        let reached = async {
            loop {
                // An error says that nobody has it.
                let owner = bus.get_name_owner(SERVICE.try_into().unwrap()).await.ok().map(|name| name.to_string());
                if is_wanted(owner.as_deref()) {
                    return owner;
                }
                changes.next().await;
            }
        };
        timeout(PATIENCE, reached).await.expect("its name comes or goes")
    }

    async fn vm(&self) -> Value {
        serde_json::from_str(&self.nexusctl(&["vm", "inspect", "web", "-o", "json"]).await).unwrap()
    }

    /// Its VM is the one that it was, and answers.
    async fn assert_adopted(&self, leader: &ProcessIdentity) {
        assert_eq!(identify(leader.pid).unwrap().as_ref(), Some(leader), "the VM's process lives");
        assert_eq!(self.vm().await["pid"], leader.pid);
        let said = self.nexusctl(&["exec", "web", "--", "echo", "undisturbed"]).await;
        assert_eq!(said, "undisturbed\n");
    }
}

#[tokio::test]
async fn nexus_is_a_service_of_the_user() {
    if let Some(session) = Session::own().await {
        return in_the_session(session).await;
    }
    let Some(mut install) = make(["install"]) else { return };
    let user = User::from_name("nobody").unwrap().expect("every system has nobody");
    let Some(manager) = Manager::start_for(user.uid, user.gid).await else { return };
    let home = manager.home();
    // As in the README.
    let prefix = format!("PREFIX={}", home.join(".local").display());
    ok(install.arg(&prefix)).await;
    fs::create_dir_all(home.join(".config/nexus")).unwrap();
    fs::write(home.join(".config/nexus/nexus.yaml"), "vmm:\n  allow-process: true\n").unwrap();
    // Wherever this program lies, the user may not go.
    let own = home.join("test");
    fs::copy(env::current_exe().unwrap(), &own).unwrap();
    let owner = format!("{}:{}", user.uid, user.gid);
    ok(Command::new("chown").args(["-R", &owner]).arg(home)).await;

    let mut session = Command::new(own);
    session.args(["--exact", "nexus_is_a_service_of_the_user", "--nocapture"]).env(SESSION, home).current_dir("/");
    let told = ok(session.uid(user.uid.as_raw()).gid(user.gid.as_raw())).await;
    assert!(told.contains("1 passed"), "{told}");

    ok(make(["uninstall"]).unwrap().arg(prefix)).await;
    let left = files(&home.join(".local"));
    assert_eq!(INSTALLED.iter().find(|file| left.contains(Path::new(file))), None);
}

async fn in_the_session(nexus: Session) {
    nexus.systemctl(&["daemon-reload"]).await;
    nexus.systemctl(&["reload", "dbus"]).await;

    // Type=notify: it is started once it says that it is.
    nexus.systemctl(&["start", "nexus"]).await;
    let state = nexus.properties(UNIT, ["Type", "ActiveState", "SubState", "StatusText", "Slice"]).await;
    assert_eq!(state, ["notify", "active", "running", "running", "nexus.slice"]);
    let status: Value = serde_json::from_str(&nexus.nexusctl(&["status", "-o", "json"]).await).unwrap();
    assert_eq!(status["state"], "running", "{status}");

    nexus.nexusctl(&["vm", "create", "web", "--vmm", "process"]).await;
    nexus.nexusctl(&["vm", "start", "web"]).await;
    let vm = nexus.vm().await;
    let unit = vm["unit"].as_str().unwrap();
    let (instance, id) =
        unit.strip_prefix("nexus-").unwrap().strip_suffix(".service").unwrap().split_once('-').unwrap();
    assert!([instance, id].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{unit}");
    let state = nexus.properties(unit, ["Transient", "ActiveState", "Slice", "NRestarts"]).await;
    assert_eq!(state, ["yes", "active", "nexus.slice", "0"]);
    let leader = identify(u32::try_from(vm["pid"].as_u64().unwrap()).unwrap()).unwrap().unwrap();
    nexus.assert_adopted(&leader).await;

    // Killed, it is started again, and finds its VM.
    let killed = nexus.daemon().await;
    let name = nexus.owner(|owner| owner.is_some()).await;
    let watch = ProcessWatch::open(&killed).unwrap().unwrap();
    assert!(watch.signal(Signal::SIGKILL).unwrap());
    nexus.owner(|owner| owner.is_some() && owner != name.as_deref()).await;
    assert_ne!(nexus.daemon().await, killed);
    assert_eq!(nexus.properties(UNIT, ["NRestarts"]).await, ["1"]);
    nexus.assert_adopted(&leader).await;

    // Restarted, as after an upgrade, it finds it as well; and one that hangs is ended and started again by systemd.
    let drop_in = nexus.home.join(".config/systemd/user/nexus.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("watchdog.conf"), "[Service]\nWatchdogSec=3\n").unwrap();
    nexus.systemctl(&["daemon-reload"]).await;
    let before = nexus.daemon().await;
    nexus.systemctl(&["restart", "nexus"]).await;
    let hangs = nexus.daemon().await;
    assert_ne!(hangs, before);
    nexus.assert_adopted(&leader).await;
    let name = nexus.owner(|owner| owner.is_some()).await;
    let watch = ProcessWatch::open(&hangs).unwrap().unwrap();
    assert!(watch.signal(Signal::SIGSTOP).unwrap());
    nexus.owner(|owner| owner.is_some() && owner != name.as_deref()).await;
    assert_ne!(nexus.daemon().await, hangs);
    nexus.assert_adopted(&leader).await;

    // Stopped, it leaves it running.
    nexus.systemctl(&["stop", "nexus"]).await;
    let state = nexus.properties(UNIT, ["ActiveState", "Result"]).await;
    assert_eq!(state, ["inactive", "success"]);
    assert_eq!(identify(leader.pid).unwrap().as_ref(), Some(&leader));
    assert_eq!(nexus.properties(unit, ["ActiveState"]).await, ["active"]);

    // Whoever calls it by its name has it started, by the unit.
    nexus.owner(|owner| owner.is_none()).await;
    let get = ["get-property", SERVICE, "/org/workfort/Nexus1", "org.workfort.Nexus1.Manager", "VmCount"];
    let count = ok(nexus.command("busctl").args(["--user", "--timeout=60"]).args(get)).await;
    assert_eq!(count, "u 1\n");
    assert_eq!(nexus.properties(UNIT, ["ActiveState"]).await, ["active"]);
    nexus.assert_adopted(&leader).await;

    nexus.nexusctl(&["vm", "kill", "web", "--yes"]).await;
    nexus.nexusctl(&["vm", "delete", "web", "--yes"]).await;
    let mut left = nexus.command("systemctl");
    left.args(["--user", "list-units", "--all", "--plain", "--no-legend", "nexus-*"]);
    let left = ok(&mut left).await;
    assert_eq!(left, "");
    nexus.systemctl(&["stop", "nexus"]).await;
}
