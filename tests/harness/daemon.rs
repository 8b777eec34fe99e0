//! A nexusd process.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use nexus_dbus::{
    ROOT, SERVICE,
    client::{
        GuestProxy, JobProxy, ManagerProxy, Options, Row, SupervisedProperties, SupervisedProxy, VmProperties, VmProxy,
    },
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use tokio::process::{Child, Command};
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, Variant, fdo::DBusProxy, proxy::CacheProperties};

use crate::{Home, Notifications, TestBus, program};

/// Ten times what was ever seen, and then some: the machines are noisy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A nexusd on a bus. It is killed with this value; its VMs go with their [`Home`].
pub struct TestDaemon {
    child: Child,
    /// What it told its manager when it was ready, line by line.
    pub ready: Vec<String>,
    /// What it tells its manager after that.
    pub notifications: Notifications,
    /// A client of its.
    pub client: Connection,
    /// Its folders.
    pub home: Arc<Home>,
    /// Its bus.
    pub bus: Arc<TestBus>,
}

/// How a nexusd ended that did not come up.
#[derive(Debug)]
pub struct Ended {
    /// With what.
    pub status: ExitStatus,
    /// What it wrote.
    pub log: String,
}

impl TestDaemon {
    /// A new one, on a bus and in folders of its own.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        Self::start_in(Arc::new(Home::new()), Arc::new(TestBus::start())).await
    }

    /// A new one with this configuration.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn configured(yaml: &str) -> Self {
        let home = Home::new();
        home.configure(yaml);
        Self::start_in(Arc::new(home), Arc::new(TestBus::start())).await
    }

    /// One in these folders, on this bus.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_in(home: Arc<Home>, bus: Arc<TestBus>) -> Self {
        let command = Self::command(&home, &bus.address());
        Self::start_with(home, bus, command).await
    }

    /// As [`start_in`](Self::start_in), with a command that was changed.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(home: Arc<Home>, bus: Arc<TestBus>, mut command: Command) -> Self {
        let socket = home.path().join("notify");
        let notifications = Notifications::listen(&socket);
        let mut child = command.env("NOTIFY_SOCKET", socket).spawn().expect("nexusd can be executed");
        let ready = async {
            loop {
                let lines = notifications.receive().await;
                if lines.iter().any(|line| line == "READY=1") {
                    return Ok(lines);
                }
            }
        };
        let up = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                ready = ready => ready,
                status = child.wait() => Err(status),
            }
        });
        let ready = match up.await {
            Ok(Ok(ready)) => ready,
            Ok(Err(status)) => panic!("nexusd did not come up: {status:?}\n{}", Self::log_in(&home)),
            Err(_) => panic!("nexusd is not ready in time\n{}", Self::log_in(&home)),
        };
        let client = bus.connect().await;
        Self { child, ready, notifications, client, home, bus }
    }

    /// What is executed: nexusd with `home` as its folders, on the bus at `address`, with a log in `home`.
    ///
    /// # Panics
    /// When there is no log.
    #[must_use]
    pub fn command(home: &Home, address: &str) -> Command {
        daemon_command(&program("nexusd"), home, address, &log_file(home))
    }

    /// As [`command`](Self::command), with failpoints as they are in that file (see `nexusd/src/failpoints.rs`).
    ///
    /// # Panics
    /// When there is no log.
    #[must_use]
    pub fn breakable(home: &Home, address: &str, failpoints: &Path) -> Command {
        let mut command = daemon_command(&program("nexusd-failpoints"), home, address, &log_file(home));
        command.env("NEXUS_FAILPOINTS", failpoints);
        command
    }

    /// Runs one that is not to come up, until its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn refused(mut command: Command) -> Ended {
        let output = command.stderr(Stdio::piped()).output();
        let output =
            tokio::time::timeout(PATIENCE, output).await.expect("nexusd ends").expect("nexusd can be executed");
        Ended { status: output.status, log: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        Self::log_in(&self.home)
    }

    /// Waits until it has written this, so often.
    ///
    /// # Panics
    /// When it does not.
    pub async fn logged(&self, text: &str, times: usize) {
        let written = async {
            while self.log().matches(text).count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let written = tokio::time::timeout(PATIENCE, written).await;
        assert!(written.is_ok(), "`{text}` is not {times} times in:\n{}", self.log());
    }

    fn log_in(home: &Home) -> String {
        fs::read_to_string(log_file(home)).unwrap_or_default()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> Pid {
        let pid = self.child.id().expect("nexusd runs");
        Pid::from_raw(i32::try_from(pid).expect("process ids are small"))
    }

    /// Sends it a signal and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&mut self, signal: Signal) -> ExitStatus {
        kill(self.pid(), signal).expect("nexusd runs");
        self.ended().await
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("nexusd does not end\n{}", self.log())).expect("nexusd is a child")
    }

    /// Kills it with SIGKILL and starts another one in its place.
    ///
    /// # Panics
    /// When that does not come up.
    pub async fn replace(mut self) -> Self {
        let status = self.end(Signal::SIGKILL).await;
        assert_eq!(status.signal(), Some(9));
        Self::start_in(self.home.clone(), self.bus.clone()).await
    }

    /// The manager.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn manager(&self) -> ManagerProxy<'static> {
        let builder = ManagerProxy::builder(&self.client).cache_properties(CacheProperties::No);
        builder.build().await.expect("a proxy")
    }

    /// A VM.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn vm(&self, path: &OwnedObjectPath) -> VmProxy<'static> {
        let builder = VmProxy::builder(&self.client).path(path.clone()).cache_properties(CacheProperties::No);
        builder.build().await.expect("a proxy")
    }

    /// The inside of a VM.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn guest(&self, path: &OwnedObjectPath) -> GuestProxy<'static> {
        let builder = GuestProxy::builder(&self.client).path(path.clone()).cache_properties(CacheProperties::No);
        builder.build().await.expect("a proxy")
    }

    /// What supervises the thing at `path`.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn supervised(&self, path: &OwnedObjectPath) -> SupervisedProxy<'static> {
        let builder = SupervisedProxy::builder(&self.client).path(path.clone()).cache_properties(CacheProperties::No);
        builder.build().await.expect("a proxy")
    }

    /// A job.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn job(&self, path: &OwnedObjectPath) -> JobProxy<'static> {
        let builder = JobProxy::builder(&self.client).path(path.clone()).cache_properties(CacheProperties::No);
        builder.build().await.expect("a proxy")
    }

    /// Waits for a job.
    ///
    /// # Errors
    /// The job's own.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn done(&self, job: &OwnedObjectPath) -> Result<(), nexus_dbus::Error> {
        let ended = tokio::time::timeout(PATIENCE, async { self.job(job).await.wait().await.map(drop) });
        ended.await.expect("the job ends")
    }

    /// Creates a VM that is a plain process.
    ///
    /// # Panics
    /// When it can't be created.
    pub async fn create<const N: usize>(&self, name: &str, more: [(&'static str, Variant<'static>); N]) -> VmPath {
        self.manager().await.create_vm(name, process(more)).await.expect("the VM is created")
    }

    /// Creates a VM that is a plain process, and starts it.
    ///
    /// # Panics
    /// When its guest does not answer.
    pub async fn run<const N: usize>(&self, name: &str, more: [(&'static str, Variant<'static>); N]) -> VmPath {
        let vm = self.create(name, more).await;
        self.start_vm(&vm).await;
        vm
    }

    /// Starts a VM and waits for its guest.
    ///
    /// # Panics
    /// When its guest does not answer.
    pub async fn start_vm(&self, vm: &VmPath) -> VmProperties {
        let job = self.vm(vm).await.start(Options::new()).await.expect("the start begins");
        self.done(&job).await.expect("the VM starts");
        self.wait(vm, |vm| vm.guest_ready).await
    }

    /// All of a VM's properties.
    ///
    /// # Panics
    /// When it is not there, or nobody answers.
    pub async fn read(&self, vm: &VmPath) -> VmProperties {
        let answer = tokio::time::timeout(PATIENCE / 2, VmProperties::read(&self.client, vm)).await;
        let Ok(answer) = answer else { panic!("nobody says what the VM is like\n{}", self.log()) };
        answer.expect("the VM is there")
    }

    /// Waits until a VM is as wanted.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait(&self, vm: &VmPath, wanted: impl Fn(&VmProperties) -> bool) -> VmProperties {
        let mut changes = crate::Signals::of(&self.client).await;
        let reached = async {
            loop {
                let row = self.read(vm).await;
                if wanted(&row) {
                    return row;
                }
                changes.heard(|signal| signal.path == vm.as_str()).await;
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(row) => row,
            Err(_) => panic!("the VM does not get there: {:#?}\n{}", self.read(vm).await, self.log()),
        }
    }

    /// How the actor that shows itself at `path` is.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn actor(&self, path: &str) -> SupervisedProperties {
        self.try_actor(path).await.expect("the actor is there")
    }

    /// Waits until the actor that shows itself at `path` is as wanted. The name may go and come back meanwhile, as it does
    /// when the actor of the bus is started again.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait_actor(&self, path: &str, wanted: impl Fn(&SupervisedProperties) -> bool) -> SupervisedProperties {
        let mut changes = crate::Signals::of(&self.client).await;
        let bus = DBusProxy::new(&self.client).await.expect("the bus answers");
        let mut owners = bus.receive_name_owner_changed_with_args(&[(0, SERVICE)]).await.expect("the bus answers");
        let reached = async {
            loop {
                match self.try_actor(path).await {
                    Ok(row) if wanted(&row) => return row,
                    _ => {}
                }
                tokio::select! {
                    () = changes.heard(|signal| signal.path == path) => {}
                    _ = owners.next() => {}
                }
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(row) => row,
            Err(_) => panic!("{path} does not get there: {:#?}\n{}", self.try_actor(path).await, self.log()),
        }
    }

    async fn try_actor(&self, path: &str) -> Result<SupervisedProperties, nexus_dbus::Error> {
        SupervisedProperties::read(&self.client, &ObjectPath::try_from(path).expect("a path")).await
    }

    /// Runs a command in a guest: its exit code and output.
    ///
    /// # Panics
    /// When the guest does not answer.
    pub async fn shell(&self, vm: &VmPath, script: &str) -> (i32, String) {
        let guest = self.guest(vm).await;
        let argv = ["/bin/sh", "-c", script];
        let run = guest.run(&argv, Options::new());
        let answer = tokio::time::timeout(PATIENCE, run).await.expect("the guest answers in time");
        let (code, stdout, ..) = answer.expect("the guest answers");
        (code, stdout)
    }

    /// Every object with its interfaces and properties as it is now.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub async fn objects(&self) -> HashMap<OwnedObjectPath, Interfaces> {
        let interface = Some("org.freedesktop.DBus.ObjectManager");
        let call = self.client.call_method(Some(SERVICE), ROOT, interface, "GetManagedObjects", &());
        let reply = tokio::time::timeout(PATIENCE, call).await.expect("an answer in time").expect("the daemon answers");
        let mut all: HashMap<OwnedObjectPath, Interfaces> = reply.body().deserialize().expect("objects");
        // zbus lists the nodes between objects as well.
        all.retain(|_, interfaces| !interfaces.is_empty());
        all
    }

    /// The path and the interfaces of every object, in order. Without jobs, which come and go.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub async fn shown(&self) -> Vec<String> {
        let all = self.objects().await;
        let row = |(path, interfaces): (&OwnedObjectPath, &Interfaces)| {
            let interfaces: Vec<&str> = interfaces.keys().map(String::as_str).collect();
            format!("{path}: {}", interfaces.join(" "))
        };
        let mut shown: Vec<String> = all.iter().map(row).filter(|row| !row.contains("/job/")).collect();
        shown.sort();
        shown
    }

    /// nexusctl on the daemon's bus, with its standard streams as pipes.
    #[must_use]
    pub fn nexusctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("nexusctl"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.home.environment())
            .env("PATH", search_path())
            .env("DBUS_SESSION_BUS_ADDRESS", self.bus.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(pid), None);
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "what the daemon did is why the test failed")]
            {
                eprintln!("--- nexusd's log\n{}---", self.log());
            }
        }
    }
}

/// The interfaces of an object, with their properties.
pub type Interfaces = BTreeMap<String, BTreeMap<String, OwnedVariant>>;

/// The object of a VM.
pub type VmPath = OwnedObjectPath;

/// Options of a VM that is a plain process.
#[must_use]
pub fn process<const N: usize>(more: [(&'static str, Variant<'static>); N]) -> Options<'static> {
    [("vmm", Variant::from("process"))].into_iter().chain(more).collect()
}

/// A nexusd with `home` as its folders, on the bus at `address`, with that log.
///
/// # Panics
/// When there is no log.
#[must_use]
pub fn daemon_command(program: &Path, home: &Home, address: &str, log: &Path) -> Command {
    let log = File::options().append(true).create(true).open(log).expect("a log");
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(home.environment())
        .env("PATH", search_path())
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .env("NEXUS_LOG", "debug,zbus=info")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    command
}

fn log_file(home: &Home) -> PathBuf {
    home.path().join("nexusd.log")
}

/// The caller's, with what the build leaves for VMs before it.
fn search_path() -> String {
    let tools = crate::GuestParts::folder().with_file_name("tools").join("bin");
    format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default())
}
