//! The VMM of a `process` VM without Nexus: the same program, as a script would start it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nexus_protocol::CONTROL_PORT;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    Outcome,
    session::{PATIENCE, Session},
};

/// Between two tries to connect.
const RETRY: Duration = Duration::from_micros(100);

/// A child that goes with it.
pub(crate) struct BareVmm {
    program: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
}

impl BareVmm {
    /// Runs one, and returns once it can be reached.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn run(session: &Session, number: usize) -> Outcome<Self> {
        let folder = session.folder().join("bare").join(number.to_string());
        fs::create_dir_all(&folder)?;
        let mut vmm = Self { program: session.folder().join("bin/guest-agent"), folder, child: None };
        vmm.spawn()?;
        vmm.wait_ready()?;
        Ok(vmm)
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it can't be executed.
    pub(crate) fn spawn(&mut self) -> Outcome<()> {
        let _ = fs::remove_file(self.socket());
        let mut command = Command::new(&self.program);
        command.arg("--process").arg(&self.folder).env_clear().current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Returns once something listens on its socket.
    ///
    /// # Errors
    /// When nothing does.
    pub(crate) fn wait_ready(&self) -> Outcome<()> {
        let limit = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            if Instant::now() > limit {
                return Err("a bare VMM does not come up".into());
            }
            sleep(RETRY);
        }
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        Ok(self.child.as_mut().ok_or("a bare VMM does not run")?.kill()?)
    }

    /// Returns once it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn wait(&mut self) -> Outcome<()> {
        self.child.take().ok_or("a bare VMM does not run")?.wait()?;
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("vsock.sock")
    }
}

impl Drop for BareVmm {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The least that it takes to have a VM that runs already: a descriptor of its VMM's process, and a connection to its
/// agent. Says how long both took.
///
/// # Errors
/// When the VM does not run.
pub(crate) fn reach(pid: u32, socket: &Path) -> Outcome<Duration> {
    let begin = Instant::now();
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("the VM has no VMM")?;
    let _process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "CONNECT {CONTROL_PORT}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.starts_with("OK ") { Ok(begin.elapsed()) } else { Err(format!("an agent answered `{answer}`").into()) }
}
