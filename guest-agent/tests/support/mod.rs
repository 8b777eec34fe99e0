//! An agent as a process, and what tests ask of it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says why it does not run")]

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command as Process, ExitStatus},
    time::Duration,
};

use nexus_host::{
    agent::{AgentClient, AgentError, AgentEvents},
    vsock::Endpoint,
};
use nexus_protocol::{Command, FailureKind, Welcome};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Ten times what the slowest step of any test here took on two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `guest-agent --process` in a folder of its own; killed with its commands when dropped.
pub(crate) struct Agent {
    pub(crate) folder: TempDir,
    child: Child,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let child = spawn(folder.path());
        Self { folder, child }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Hybrid { socket: self.socket() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("vsock.sock")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Connects as soon as the agent listens.
    pub(crate) async fn connect(&self) -> (AgentClient, Welcome, AgentEvents) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match AgentClient::connect(&self.endpoint(), None, PATIENCE).await {
                Ok(connected) => return connected,
                Err(AgentError::Unreachable(_)) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    pub(crate) async fn client(&self) -> AgentClient {
        self.connect().await.0
    }

    /// Kills the agent without warning and starts another one in its place.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.folder.path());
    }

    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // In order, so that its commands go with it; by force if it does not.
        if let Ok(None) = self.child.try_wait() {
            signal(self.child.id(), libc::SIGTERM);
            for _ in 0..1000 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> Child {
    Process::new(env!("CARGO_BIN_EXE_guest-agent")).arg("--process").arg(folder).spawn().unwrap()
}

pub(crate) fn signal(pid: u32, number: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(number).unwrap()).unwrap();
}

/// Whether that process is there, and more than a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("in time")
}

pub(crate) fn sh(script: &str) -> Command {
    Command::new(["/bin/sh", "-c", script])
}

/// The kind of failure that the agent answered with.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, AgentError>) -> FailureKind {
    match result {
        Err(AgentError::Failed(failure)) => failure.kind,
        other => panic!("not a failure of the agent's: {other:?}"),
    }
}

/// A number that a command wrote into a file, once it has.
pub(crate) async fn pid_in(file: &Path) -> u32 {
    let read = || std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'));
    until("a pid is written", || read().is_some()).await;
    read().unwrap().trim().parse().unwrap()
}

pub(crate) fn is_clean(status: ExitStatus) -> bool {
    status.code() == Some(0) && status.signal().is_none()
}
