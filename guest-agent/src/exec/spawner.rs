//! Starts commands.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::Stdio,
    rc::Rc,
};

use nexus_model::{ExitStatus, Id};
use nexus_protocol::{Command, Failure, FailureKind, Role};
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use tokio::sync::oneshot;

use super::{
    account::{self, Account},
    cgroup::Parent,
    freezer::Freezer,
    group::{Group, Hold, Leftovers},
    process_table::MARK,
};
use crate::reaper::Reaper;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a terminal is taken for unless the command's variables say otherwise.
const TERM: &str = "xterm-256color";

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// As many descriptors the agent wants for itself: six for each of 256 commands, and connections.
const WANTED_DESCRIPTORS: u64 = 8192;

/// Starts commands, each in a session, process group and, where there are any, control group of its own.
#[derive(Debug)]
pub(crate) struct Spawner {
    role: Role,
    run_id: Id,
    reaper: Rc<Reaper>,
    parent: Option<Rc<Parent>>,
    freezer: Rc<Freezer>,
    leftovers: Rc<Leftovers>,
    count: Cell<u64>,
    inherited: Inherited,
}

/// What the agent changed of itself and gives back to its commands.
#[derive(Clone, Copy, Debug)]
struct Inherited {
    descriptors: Rlimit,
    oom_score: Option<i16>,
}

/// A command that was started.
#[derive(Debug)]
pub(super) struct Child {
    /// As it was started: a login shell has its own.
    pub(super) argv: Vec<String>,
    pub(super) group: Rc<Group>,
    pub(super) ended: oneshot::Receiver<ExitStatus>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Where a command's input comes from and its output goes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wiring<'a> {
    /// Nowhere.
    Null,
    /// There is no input, and pipes take the output.
    Outputs,
    /// Three pipes.
    Piped,
    /// The slave's side of a terminal, which becomes the command's controlling one. Without arguments the command is the
    /// user's login shell.
    Terminal(&'a OwnedFd),
}

impl Spawner {
    /// Prepares the agent to start commands: it outlives them when memory runs out, and has more descriptors than they.
    pub(crate) fn new(role: Role, run_id: Id, reaper: Rc<Reaper>) -> Self {
        let descriptors = getrlimit(Resource::Nofile);
        let hard = descriptors.maximum.map(|maximum| maximum.max(WANTED_DESCRIPTORS));
        let raised = |maximum| Rlimit { current: maximum, maximum };
        // Only root may raise the hard limit. With neither, the connections are fewer.
        let _ = setrlimit(Resource::Nofile, raised(hard))
            .or_else(|_| setrlimit(Resource::Nofile, raised(descriptors.maximum)));

        let before = std::fs::read_to_string(OOM_SCORE).ok().and_then(|score| score.trim().parse().ok());
        let oom_score = before.filter(|_| std::fs::write(OOM_SCORE, "-1000").is_ok());
        let parent = Parent::find(role).map(Rc::new);
        Self {
            role,
            run_id,
            reaper,
            freezer: Freezer::new(parent.clone()),
            parent,
            leftovers: Rc::default(),
            count: Cell::new(0),
            inherited: Inherited { descriptors, oom_score },
        }
    }

    /// Has commands stand still, and go on.
    pub(crate) const fn freezer(&self) -> &Rc<Freezer> {
        &self.freezer
    }

    /// Starts `command`. Everything that it starts is killed when the group is, and only then.
    pub(super) fn spawn(&self, command: &Command, wiring: Wiring<'_>) -> Result<Child, Failure> {
        let is_login = matches!(wiring, Wiring::Terminal(_)) && command.argv.is_empty();
        if !is_login {
            command.validate().map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?;
        }
        let account = self.account(command.user.as_deref())?;
        let folder = working_folder(command, account.as_ref())?;

        let number = self.count.get();
        self.count.set(number.wrapping_add(1));
        let mark = format!("{}-{number}", self.run_id);
        let mut environment = base_environment(account.as_ref());
        let mut terminal = None;
        if let Wiring::Terminal(tty) = wiring {
            environment.insert("TERM".to_owned(), TERM.to_owned());
            let give = || give_terminal(tty, account.as_ref()).and_then(|()| tty.try_clone());
            terminal = Some(give().map_err(|error| system("give the command its terminal", &error))?);
        }
        let shell = environment.get("SHELL").cloned().unwrap_or_default();
        environment.extend(command.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let (hold, entrance) = match self.parent.as_ref().and_then(|parent| parent.create(&mark).ok()) {
            Some(cgroup) => {
                let entrance = cgroup.entrance();
                (Hold::Cgroup(cgroup), Some(entrance))
            }
            None => {
                environment.insert(MARK.to_owned(), mark.clone());
                (Hold::Mark(mark), None)
            }
        };
        let group = Rc::new(Group::new(hold, Rc::clone(&self.leftovers)));
        let entrance = entrance.transpose().map_err(|error| system("open the command's control group", &error))?;

        let program = command.argv.first().unwrap_or(&shell).as_str();
        let mut process = std::process::Command::new(program);
        if is_login {
            // By the dash a shell knows that it is a login shell: see `login(1)`.
            process.arg0(format!("-{}", program.rsplit('/').next().unwrap_or_default()));
        }
        let [stdin, stdout, stderr] = stdio(wiring).map_err(|error| system("make the command's streams", &error))?;
        process
            .args(command.argv.get(1..).unwrap_or_default())
            .env_clear()
            .envs(environment)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let setup = Setup {
            entrance,
            terminal,
            inherited: self.inherited,
            account: account.filter(|_| rustix::process::geteuid().is_root()),
            dies_with_agent: self.role == Role::Process,
            folder,
        };
        // SAFETY: the closure runs in the child between fork and exec. It makes system calls on memory that was made
        // ready before, and neither allocates nor takes a lock.
        unsafe {
            process.pre_exec(move || setup.apply());
        }
        let mut child = process.spawn().map_err(|error| not_started(program, &error))?;
        let ended = self.reaper.expect(child.id());
        if let Some(leader) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            group.set_leader(leader);
        }
        let argv = if is_login { vec![shell] } else { command.argv.clone() };
        Ok(Child {
            argv,
            group,
            ended,
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
        })
    }

    /// Whom to run as; `None` where there is no account for the agent's own user.
    fn account(&self, user: Option<&str>) -> Result<Option<Account>, Failure> {
        let own = rustix::process::geteuid();
        let Some(user) = user else { return Ok(Account::find(&own.as_raw().to_string())) };
        let account = Account::find(user)
            .ok_or_else(|| Failure::new(FailureKind::Invalid, format!("there is no user `{user}` in the guest")))?;
        if !own.is_root() && account.uid != own.as_raw() {
            let message = format!("the agent is not root and can't run a command as `{user}`");
            return Err(Failure::new(FailureKind::Refused, message));
        }
        Ok(Some(account))
    }
}

/// What the child does to itself before it becomes the command.
struct Setup {
    entrance: Option<File>,
    terminal: Option<OwnedFd>,
    inherited: Inherited,
    account: Option<Account>,
    dies_with_agent: bool,
    folder: CString,
}

impl Setup {
    fn apply(&self) -> io::Result<()> {
        if let Some(entrance) = &self.entrance {
            rustix::io::write(entrance, b"0")?;
        }
        setsid()?;
        if let Some(terminal) = &self.terminal {
            rustix::process::ioctl_tiocsctty(terminal)?;
        }
        setrlimit(Resource::Nofile, self.inherited.descriptors)?;
        if let Some(score) = self.inherited.oom_score {
            restore_oom_score(score)?;
        }
        if let Some(account) = &self.account {
            set_groups(&account.groups)?;
            setgid(Gid::from_raw(account.gid))?;
            setuid(Uid::from_raw(account.uid))?;
        }
        if self.dies_with_agent {
            // Changing the user above would have undone it.
            set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        rustix::process::chdir(self.folder.as_c_str())?;
        Ok(())
    }
}

fn stdio(wiring: Wiring<'_>) -> io::Result<[Stdio; 3]> {
    Ok(match wiring {
        Wiring::Null => [Stdio::null(), Stdio::null(), Stdio::null()],
        Wiring::Outputs => [Stdio::null(), Stdio::piped(), Stdio::piped()],
        Wiring::Piped => [Stdio::piped(), Stdio::piped(), Stdio::piped()],
        Wiring::Terminal(tty) => [tty.try_clone()?.into(), tty.try_clone()?.into(), tty.try_clone()?.into()],
    })
}

/// Makes the terminal the user's, as `login(1)` does: with the group `tty`, where there is one, others may write to it.
fn give_terminal(tty: &OwnedFd, account: Option<&Account>) -> io::Result<()> {
    let Some(account) = account.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
    let (gid, mode) = match account::group("tty") {
        Some(gid) => (gid, 0o620),
        None => (account.gid, 0o600),
    };
    rustix::fs::fchown(tty, Some(rustix::fs::Uid::from_raw(account.uid)), Some(rustix::fs::Gid::from_raw(gid)))?;
    rustix::fs::fchmod(tty, rustix::fs::Mode::from_raw_mode(mode))?;
    Ok(())
}

fn restore_oom_score(score: i16) -> io::Result<()> {
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())?;
    // Digits are written by hand since formatting may allocate.
    let mut digits = [0; 6];
    let mut rest = score.unsigned_abs();
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if score < 0 {
        first -= 1;
        digits[first] = b'-';
    }
    rustix::io::write(file, &digits[first..])?;
    Ok(())
}

fn set_groups(groups: &[u32]) -> io::Result<()> {
    // `setgroups` wants another type for the same number.
    let mut buffer = [Gid::from_raw(0); 64];
    let count = groups.len().min(buffer.len());
    for (slot, group) in buffer.iter_mut().zip(groups) {
        *slot = Gid::from_raw(*group);
    }
    setgroups(&buffer[..count])?;
    Ok(())
}

fn base_environment(account: Option<&Account>) -> BTreeMap<String, String> {
    let (name, home, shell) = account.map_or(("nobody", "/", "/bin/sh"), |account| {
        (account.name.as_str(), account.home.as_str(), account.shell.as_str())
    });
    [("PATH", PATH), ("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell), ("LANG", "C.UTF-8")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The folder that was asked for, which has to be there, or the home if it is there.
fn working_folder(command: &Command, account: Option<&Account>) -> Result<CString, Failure> {
    let folder = match &command.cwd {
        Some(folder) if Path::new(folder).is_dir() => folder.as_str(),
        Some(folder) => {
            return Err(Failure::new(FailureKind::Invalid, format!("there is no folder `{folder}` in the guest")));
        }
        None => account.map(|account| account.home.as_str()).filter(|home| Path::new(home).is_dir()).unwrap_or("/"),
    };
    CString::new(folder).map_err(|_| Failure::new(FailureKind::Invalid, "the folder's name holds a NUL character"))
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    let (kind, message) = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => {
            (FailureKind::NotFound, format!("there is no program `{program}` in the guest"))
        }
        Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR | libc::EPERM) => {
            (FailureKind::NotExecutable, format!("`{program}` can't be executed in the guest: {error}"))
        }
        _ => (FailureKind::System, format!("`{program}` can't be started in the guest: {error}")),
    };
    Failure::new(kind, message)
}

pub(crate) fn system(act: &str, error: &io::Error) -> Failure {
    Failure::new(FailureKind::System, format!("cannot {act}: {error}"))
}
