//! A bus and a daemon of the bench's own, in a folder of its own, all of which go with it.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use nexus_dbus::{
    SERVICE,
    client::{JobProxy, ManagerProxy, SupervisedProxy, VmProxy},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, connection, fdo::DBusProxy, proxy::CacheProperties};

use crate::{Outcome, service};

/// How long anything may take. Far more than it ever took: adopting a thousand VMs on a busy machine, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The programs that are measured.
#[derive(Debug)]
pub(crate) struct Programs {
    files: Vec<PathBuf>,
}

/// The bus, and the daemon on it.
pub(crate) struct Session {
    /// A client's connection to the bus.
    pub(crate) connection: Connection,
    /// The address of the bus.
    address: String,
    daemon: Option<Child>,
    service: Option<Child>,
    bus: Child,
    folder: TempDir,
}

impl Programs {
    /// Makes sure that they are there.
    ///
    /// # Errors
    /// When one is not.
    pub(crate) fn find(folder: &Path, agent: &Path, peer: &Path) -> Outcome<Self> {
        let own = ["nexusd", "nexusd-failpoints", "nexusctl", "nexus-shim"].map(|name| folder.join(name));
        let files: Vec<_> = own.into_iter().chain([agent.to_owned(), peer.to_owned()]).collect();
        match files.iter().find(|file| !file.is_file()) {
            Some(file) => Err(format!("{} is not there: run `make bench`", file.display()).into()),
            None => Ok(Self { files }),
        }
    }
}

impl Session {
    /// A bus, with nobody on it.
    ///
    /// # Errors
    /// When there is no `dbus-daemon`, or it does not come up.
    pub(crate) async fn start(programs: &Programs, imports: Option<&Path>) -> Outcome<Self> {
        // Sockets lie in it, and their paths are short.
        let folder = tempfile::Builder::new().prefix("nexus-bench.").tempdir_in("/tmp")?;
        for name in ["bin", "config/nexus", "run", "home"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        // The daemon finds the agent beside itself, where the build does not put it.
        for file in &programs.files {
            fs::copy(file, folder.path().join("bin").join(file.file_name().unwrap_or_default()))?;
        }
        let mut config = "vmm:\n  allow-process: true\n".to_owned();
        if let Some(imports) = imports {
            config.push_str(&format!("paths:\n  allow: [{:?}]\n", imports.canonicalize()?));
        }
        fs::write(folder.path().join("config/nexus/nexus.yaml"), config)?;

        let address = format!("unix:path={}", folder.path().join("bus").display());
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--print-address"]).arg(format!("--address={address}"));
        let mut bus = bus.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(output) = bus.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let connection = connection::Builder::address(address.as_str()).build().await;
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                bus.kill()?;
                bus.wait()?;
                return Err(error.into());
            }
        };
        Ok(Self { connection, address, daemon: None, service: None, bus, folder })
    }

    /// Another client's connection to the bus.
    ///
    /// # Errors
    /// When the bus is gone.
    pub(crate) async fn connect(&self) -> Outcome<Connection> {
        Ok(connection::Builder::address(self.address.as_str()).build().await?)
    }

    /// The session's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program with the environment of the session: one of Nexus' by its name, any other by its path.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let own = self.folder().join("bin").join(program.as_ref());
        let mut command = if own.is_file() { Command::new(own) } else { Command::new(program) };
        let under = |name: &str| self.folder().join(name);
        command.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs([("XDG_CONFIG_HOME", under("config")), ("XDG_STATE_HOME", under("state"))]);
        command.envs([("XDG_DATA_HOME", under("data")), ("XDG_RUNTIME_DIR", under("run")), ("HOME", under("home"))]);
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts the daemon, and says how long it took until its name was on the bus.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start_daemon(&mut self) -> Outcome<Duration> {
        let command = self.command("nexusd");
        self.start_program(command).await
    }

    /// Starts a daemon that can be made to fail, see [`set_failpoints`](Self::set_failpoints).
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start_breakable_daemon(&mut self) -> Outcome<()> {
        fs::write(self.failpoints(), "")?;
        let mut command = self.command("nexusd-failpoints");
        command.env("NEXUS_FAILPOINTS", self.failpoints());
        self.start_program(command).await?;
        Ok(())
    }

    /// Makes such a daemon fail at those places from now on: `nexusd/src/failpoints.rs` says how.
    ///
    /// # Errors
    /// When it does not take them.
    pub(crate) async fn set_failpoints(&self, places: &str) -> Outcome<()> {
        let taken = self.failpoints().with_extension("heap");
        let _ = fs::remove_file(&taken);
        fs::write(self.failpoints(), places)?;
        kill(Pid::from_raw(i32::try_from(self.daemon_pid()?)?), Signal::SIGUSR1)?;
        let limit = Instant::now() + PATIENCE;
        while !taken.exists() {
            if Instant::now() > limit {
                return Err("the daemon does not read its failpoints".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    fn failpoints(&self) -> PathBuf {
        self.folder().join("failpoints")
    }

    async fn start_program(&mut self, mut command: Command) -> Outcome<Duration> {
        let log = fs::File::options().create(true).append(true).open(self.folder().join("nexusd.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let (child, duration) = self.start_named(command, SERVICE).await?;
        self.daemon = Some(child);
        Ok(duration)
    }

    /// The daemon's process id.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn daemon_pid(&self) -> Outcome<u32> {
        Ok(self.daemon.as_ref().ok_or("there is no daemon")?.id())
    }

    /// Ends the daemon in order. VMs run on.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn end_daemon(&mut self) -> Outcome<()> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        terminate(daemon).await
    }

    /// Kills the daemon, and returns once it is gone. VMs run on.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn kill_daemon(&mut self) -> Outcome<()> {
        let mut daemon = self.daemon.take().ok_or("there is no daemon")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Starts the bare service, and says how long it took until its name was on the bus.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start_service(&mut self) -> Outcome<Duration> {
        let mut command = self.command(env::current_exe()?);
        command.arg(service::ROLE);
        let (child, duration) = self.start_named(command, service::NAME).await?;
        self.service = Some(child);
        Ok(duration)
    }

    /// The bare service's process id.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn service_pid(&self) -> Outcome<u32> {
        Ok(self.service.as_ref().ok_or("there is no service")?.id())
    }

    /// Ends the bare service.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn end_service(&mut self) -> Outcome<()> {
        let Some(service) = self.service.take() else { return Ok(()) };
        terminate(service).await
    }

    async fn start_named(&self, mut command: Command, name: &str) -> Outcome<(Child, Duration)> {
        let bus = DBusProxy::new(&self.connection).await?;
        let mut owners = bus.receive_name_owner_changed_with_args(&[(0, name)]).await?;
        let begin = Instant::now();
        let mut child = command.spawn()?;
        let named = async {
            while let Some(change) = owners.next().await {
                if change.args().is_ok_and(|args| args.new_owner().is_some()) {
                    break;
                }
            }
            begin.elapsed()
        };
        // A program that ended never takes its name.
        let ended = async {
            while let Ok(None) = child.try_wait() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let duration = tokio::select! {
            biased;
            duration = timeout(PATIENCE, named) => duration.ok(),
            () = ended => None,
        };
        match duration {
            Some(duration) => Ok((child, duration)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(self.folder().join("nexusd.log")).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(5).collect();
                Err(format!("{name} did not come up:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
                    .into())
            }
        }
    }

    /// Calls the manager.
    ///
    /// # Errors
    /// When the bus fails.
    pub(crate) async fn manager(&self) -> Outcome<ManagerProxy<'static>> {
        Ok(ManagerProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await?)
    }

    /// Calls a VM.
    ///
    /// # Errors
    /// When the bus fails.
    pub(crate) async fn vm(&self, path: &OwnedObjectPath) -> Outcome<VmProxy<'static>> {
        let vm = VmProxy::builder(&self.connection).path(path.clone());
        Ok(vm.cache_properties(CacheProperties::No).build().await?)
    }

    /// Calls the actor of something.
    ///
    /// # Errors
    /// When the bus fails.
    pub(crate) async fn actor(&self, path: &OwnedObjectPath) -> Outcome<SupervisedProxy<'static>> {
        let actor = SupervisedProxy::builder(&self.connection).path(path.clone());
        Ok(actor.cache_properties(CacheProperties::No).build().await?)
    }

    /// Waits for the end of a job.
    ///
    /// # Errors
    /// When it failed, or takes too long.
    pub(crate) async fn job(&self, path: OwnedObjectPath) -> Outcome<()> {
        let job = JobProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?;
        timeout(PATIENCE, job.wait()).await.map_err(|_| "a job did not end")??;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The daemon first: it would bring back what ends.
        for mut child in [self.daemon.take(), self.service.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Those that daemons started are nobody's children, but all of them name the folder.
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let left = processes(self.folder());
            if left.is_empty() || Instant::now() > limit {
                break;
            }
            left.into_iter().for_each(end);
            // As the bus is a child, it is there until somebody asks for its status.
            let _ = self.bus.try_wait();
            sleep(Duration::from_millis(20));
        }
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

/// Asks a child to end, and waits until it has.
async fn terminate(mut child: Child) -> Outcome<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGTERM)?;
    let limit = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > limit {
            child.kill()?;
            child.wait()?;
            return Err(format!("process {pid} did not end").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The processes whose arguments or environment name `folder`.
pub(crate) fn processes(folder: &Path) -> Vec<u32> {
    let folder = folder.as_os_str().as_bytes();
    let names =
        |file: PathBuf| fs::read(file).is_ok_and(|bytes| bytes.windows(folder.len()).any(|window| window == folder));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| names(format!("/proc/{pid}/cmdline").into()) || names(format!("/proc/{pid}/environ").into()))
        .collect()
}

/// Kills a process.
pub(crate) fn end(pid: u32) {
    if let Ok(pid @ 1..) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
