//! The programs of a VM, from the first one's start to the last one's end.

use std::{
    env, fs,
    io::{self, PipeReader},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use nexus_host::{
    process::identify,
    unit::{
        ExitRecord, Program, ProgramRole, StartFailure,
        record::{ProcessRecord, ProgramRecord, Records, StartRequest},
    },
};
use nexus_model::{ExitStatus, ProcessIdentity, Timestamp};
use nix::sys::{
    resource::{Resource, setrlimit},
    signal::{SigSet, Signal, kill},
    signalfd::{SfdFlags, SignalFd},
    wait::waitpid,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::FlockOperation,
    process::{PidfdFlags, pidfd_open},
};

use crate::{
    confine::{Confinement, KeeperFd},
    connection::Connection,
    log::{Copied, LogPump},
    sandbox::Init,
};

/// How long a program may take until it listens. The slowest machine seen took a tenth.
const READY: Duration = Duration::from_secs(10);
/// How often that is looked at.
const READY_LOOK: Duration = Duration::from_millis(1);
/// How long an older keeper in the same folder, on its way out, may take.
const LOCK: Duration = Duration::from_secs(5);
/// How long a VMM has to end by itself when the keeper is told to end.
const TERMINATE: Duration = Duration::from_secs(3);
/// A sidecar ends when its VMM does, and may be seen first: so long is waited before it is blamed.
const BLAME: Duration = Duration::from_millis(50);

/// What the keeper keeps. When dropped, all of it dies.
pub(crate) struct Unit {
    records: Records,
    signals: SignalFd,
    init: Option<Init>,
    programs: Vec<Running>,
}

struct Running {
    role: ProgramRole,
    child: Child,
    pidfd: OwnedFd,
    process: ProcessIdentity,
    log: Option<LogPump>,
}

impl Unit {
    /// Starts all programs and records them. When it fails, or nexusd hangs up before the record is there, nothing is left.
    pub(crate) fn start(
        runtime_dir: &Path,
        request: StartRequest,
        nexusd: &Connection,
    ) -> Result<(Self, ProcessRecord), StartFailure> {
        let StartRequest { unit, launch } = request;
        launch.validate(runtime_dir).step("accept its launch")?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        setrlimit(Resource::RLIMIT_CORE, 0, 0).step("forbid core files")?;
        nix::sys::prctl::set_child_subreaper(true).step("become a reaper")?;
        nix::unistd::chdir("/").step("leave its folder")?;
        let signals = catch_signals().step("catch signals")?;
        let records = claim(runtime_dir)?;
        let keeper = KeeperFd::open().step("watch itself")?;
        let me = identity(std::process::id())?;

        let init = match &launch.sandbox {
            Some(sandbox) => Some(Init::start(sandbox, &launch.working_directory, &keeper)?),
            None => None,
        };
        let mut this = Self { records, signals, init, programs: Vec::new() };
        for program in launch.programs {
            let ready_socket = program.ready_socket.clone();
            this.spawn(program, &launch.working_directory, &keeper)?;
            if let Some(socket) = ready_socket {
                this.wait_ready(&socket, nexusd)?;
            }
        }
        let (leader, others) = this.programs.split_last().ok_or(NO_PROGRAM).step("accept its launch")?;
        let record = ProcessRecord {
            unit,
            invocation_id: env::var("INVOCATION_ID").ok(),
            keeper: me,
            leader: leader.process.clone(),
            others: others
                .iter()
                .map(|program| ProgramRecord { role: program.role, process: program.process.clone() })
                .collect(),
            endpoint: launch.endpoint,
        };
        this.records.write_process(&record).step("record its processes")?;
        // Who hangs up before this expects nothing to be left, and who does later finds the record.
        if readable(nexusd.as_fd(), Duration::ZERO) {
            this.kill_all();
            this.records.withdraw_process().step("withdraw its record")?;
            return Err(hung_up());
        }
        Ok((this, record))
    }

    /// Waits until a program ends, ends the others, and records how. Tells how the first one ended.
    pub(crate) fn keep(mut self) -> ExitStatus {
        let record = self.wait();
        self.kill_all();
        for program in &mut self.programs {
            if let Some(log) = program.log.take() {
                log.finish();
            }
        }
        // Without it the keeper's own end still tells, to a manager.
        let _ = self.records.write_exit(&record);
        record.status
    }

    fn spawn(&mut self, program: Program, working_directory: &Path, keeper: &KeeperFd) -> Result<(), StartFailure> {
        let Program { role, argv, env, log, .. } = program;
        let (path, arguments) = argv.split_first().ok_or(NO_PROGRAM).step("accept its launch")?;
        let failed = |error: io::Error| StartFailure::Program { role, program: path.into(), reason: error.to_string() };
        let mut command = Command::new(path);
        command.args(arguments).env_clear().envs(env).stdin(Stdio::null());
        let log = match log {
            Some(log) => {
                let name = log.path.display().to_string();
                let pump = output(&mut command).and_then(|pipe| LogPump::open(log, pipe));
                Some(pump.step(&format!("open {name}"))?)
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
                None
            }
        };
        let init = self.init.as_ref().map(|init| init.pidfd.try_clone()).transpose();
        let confinement = Confinement {
            init: init.step("enter the sandbox")?,
            working_directory: working_directory.to_owned(),
            keeper: keeper.try_clone().step("watch itself")?,
        };
        // SAFETY: this program has one thread, so what the child does after the fork can't meet a lock that another held.
        unsafe { command.pre_exec(move || confinement.enter()) };
        let mut child = command.spawn().map_err(failed)?;
        match watch(&child) {
            Ok((pidfd, process)) => {
                self.programs.push(Running { role, child, pidfd, process, log });
                Ok(())
            }
            Err(failure) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failure)
            }
        }
    }

    fn wait_ready(&mut self, socket: &Path, nexusd: &Connection) -> Result<(), StartFailure> {
        let program = self.programs.last_mut().ok_or(NO_PROGRAM).step("wait for a program")?;
        let deadline = Instant::now() + READY;
        loop {
            // Its network namespace is the socket's, even though the path names it.
            if listens(program.process.pid, socket).step("read the sockets of a program")? {
                return Ok(());
            }
            if readable(program.pidfd.as_fd(), READY_LOOK) {
                let status = program.child.wait().map_or(ExitStatus::Unknown, exit_status);
                return Err(StartFailure::Ended { role: program.role, status });
            }
            if readable(nexusd.as_fd(), Duration::ZERO) {
                return Err(hung_up());
            }
            if let Some(log) = &mut program.log {
                log.copy();
            }
            if Instant::now() > deadline {
                return Err(StartFailure::NotReady { role: program.role, socket: socket.to_owned(), after: READY });
            }
        }
    }

    /// Waits until a program ends.
    fn wait(&mut self) -> ExitRecord {
        let mut terminate_until: Option<Instant> = None;
        loop {
            let timeout = terminate_until.map(|until| until.saturating_duration_since(Instant::now()));
            self.poll(timeout);
            if let Some(ended) = self.ended() {
                return ended;
            }
            if matches!(self.signals.read_signal(), Ok(Some(_))) && terminate_until.is_none() {
                terminate_until = Some(Instant::now() + TERMINATE);
                self.signal_leader(Signal::SIGTERM);
            }
            if terminate_until.is_some_and(|until| Instant::now() >= until) {
                self.signal_leader(Signal::SIGKILL);
            }
        }
    }

    /// Waits until something happens, and copies what the programs wrote.
    fn poll(&mut self, timeout: Option<Duration>) {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        for program in &self.programs {
            fds.push(PollFd::new(&program.pidfd, PollFlags::IN));
            fds.extend(program.log.iter().map(|log| PollFd::new(log, PollFlags::IN)));
        }
        let timeout = timeout.map(timespec);
        // An error is an interruption, or a lack of memory that has passed by the next time.
        let _ = poll(&mut fds, timeout.as_ref());
        drop(fds);
        for program in &mut self.programs {
            if program.log.as_mut().is_some_and(|log| log.copy() == Copied::End) {
                program.log = None;
            }
        }
    }

    /// Who ended first and how, once anyone did.
    fn ended(&mut self) -> Option<ExitRecord> {
        let (vmm, sidecars) = self.programs.split_last_mut()?;
        let at = Timestamp::from(SystemTime::now());
        let sidecar = sidecars.iter_mut().find_map(|program| Some((program.role, program.status()?)));
        if sidecar.is_some() {
            readable(vmm.pidfd.as_fd(), BLAME);
        }
        let (who, status) = vmm.status().map(|status| (vmm.role, status)).or(sidecar)?;
        Some(ExitRecord { who, status, at })
    }

    fn signal_leader(&mut self, signal: Signal) {
        if let Some(leader) = self.programs.last() {
            // Not reaped yet, or this would not be asked: the pid is still its own.
            let _ = kill(pid(leader.process.pid), signal);
        }
    }

    /// Kills what is left and returns when it is gone. Safe to do twice.
    fn kill_all(&mut self) {
        if let Some(init) = &self.init {
            let _ = kill(init.pid, Signal::SIGKILL);
        }
        for program in &mut self.programs {
            let _ = program.child.kill();
        }
        for program in &mut self.programs {
            let _ = program.child.wait();
        }
        // The last of its namespace, so everything in the sandbox is gone when it is.
        if let Some(init) = self.init.take() {
            let _ = waitpid(init.pid, None);
        }
        kill_orphans();
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Running {
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten().map(exit_status)
    }
}

/// Takes the folder for this keeper's life.
fn claim(runtime_dir: &Path) -> Result<Records, StartFailure> {
    let records = Records::open(runtime_dir)
        .and_then(|records| records.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .step("open its folder")?;
    let deadline = Instant::now() + LOCK;
    loop {
        match rustix::fs::flock(&records, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(READY_LOOK),
            result => result.step("lock its folder")?,
        }
    }
    let process = records.process().step("read its folder")?;
    let exit = records.exit().step("read its folder")?;
    if process.is_some() || exit.is_some() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists)).step("forget the records of an older run");
    }
    Ok(records)
}

/// Signals that ask the keeper to end become readable.
fn catch_signals() -> nix::Result<SignalFd> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// One pipe for all that the program says.
fn output(command: &mut Command) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    Ok(reader)
}

fn watch(child: &Child) -> Result<(OwnedFd, ProcessIdentity), StartFailure> {
    let process = identity(child.id())?;
    let raw = rustix::process::Pid::from_child(child);
    Ok((pidfd_open(raw, PidfdFlags::empty()).step("watch a program")?, process))
}

fn identity(process: u32) -> Result<ProcessIdentity, StartFailure> {
    identify(process)
        .map_err(io::Error::other)
        .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .step("identify a program")
}

/// Whether a socket at that path accepts connections, see `unix_seq_show` in the kernel's `net/unix/af_unix.c`. To connect
/// would use up the one connection that a vhost-user device takes.
fn listens(process: u32, socket: &Path) -> io::Result<bool> {
    const ACCEPTS: u32 = 0x1_0000;
    let table = match fs::read(format!("/proc/{process}/net/unix")) {
        Ok(table) => table,
        // It has just ended, which the caller sees next.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EINVAL)) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let socket = socket.as_os_str().as_bytes();
    Ok(table.split(|byte| *byte == b'\n').any(|line| {
        let Some(rest) = line.strip_suffix(socket).and_then(|rest| rest.strip_suffix(b" ")) else { return false };
        let flags = rest.split(u8::is_ascii_whitespace).nth(3).and_then(|flags| std::str::from_utf8(flags).ok());
        flags.and_then(|flags| u32::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & ACCEPTS != 0)
    }))
}

fn readable(fd: std::os::fd::BorrowedFd<'_>, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timespec(timeout))).is_ok_and(|ready| ready > 0)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}

/// Kills what programs without a sandbox left behind: orphans come to the keeper, their reaper.
fn kill_orphans() {
    let me = std::process::id();
    while let Ok(children) = fs::read_to_string(format!("/proc/{me}/task/{me}/children")) {
        let children: Vec<i32> = children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect();
        if children.is_empty() {
            return;
        }
        for child in children.iter().copied().map(nix::unistd::Pid::from_raw) {
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
    }
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Unknown,
    }
}

fn pid(process: u32) -> nix::unistd::Pid {
    // A pid of the kernel's fits: it is at most 4194304.
    nix::unistd::Pid::from_raw(process.cast_signed())
}

fn hung_up() -> StartFailure {
    StartFailure::Keeper { step: "go on".to_owned(), reason: "nexusd has gone".to_owned() }
}

const NO_PROGRAM: &str = "there is no program";

/// Names the step of a result that is an error.
trait Step<T> {
    fn step(self, step: &str) -> Result<T, StartFailure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, StartFailure> {
        self.map_err(|error| StartFailure::Keeper { step: step.to_owned(), reason: error.to_string() })
    }
}
