//! What a VMM that its guest has taken over could try. It is played by this test's own program, once as any process of the
//! user, where everything must work, and once as a keeper starts it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::wait::WaitStatus,
    unistd::{ForkResult, Pid},
};
use serde::{Deserialize, Serialize};

/// What is to be tried, and where the result goes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) report: PathBuf,
}

/// What is wrong with each attempt; none is that it worked.
pub(crate) type Report = Vec<(Attempt, Option<String>)>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Attempt {
    /// Connect to a Unix socket.
    Connect(PathBuf),
    /// Connect to an abstract Unix socket.
    ConnectAbstract(String),
    /// Connect to a port of the host.
    ConnectTcp(u16),
    /// Read a file.
    Read(PathBuf),
    /// Open a file for writing.
    Write(PathBuf),
    /// Make a file.
    Create(PathBuf),
    /// Look into a folder.
    List(PathBuf),
    /// Listen on a Unix socket.
    Listen(PathBuf),
    /// Send a signal to a process of the host.
    Signal(i32),
    /// Trace a process of the host.
    Trace(i32),
    /// Use a descriptor that nexusd left open.
    Descriptor(i32),
    /// Read a key of the user's session.
    Key(i64),
    /// Look at shared memory of the user.
    SharedMemory(i32),
    /// Make a user namespace, and with it get all capabilities over what is made in there.
    NewUserNamespace,
    /// Have any capability.
    Capability,
}

/// Tries what a plan says.
pub(crate) fn play(plan: &Path) {
    let plan: Plan = serde_json::from_slice(&fs::read(plan).unwrap()).unwrap();
    let report: Report = plan
        .attempts
        .into_iter()
        .map(|attempt| {
            let failure = attempt.try_it().err().map(|error| error.to_string());
            (attempt, failure)
        })
        .collect();
    fs::write(plan.report, serde_json::to_vec(&report).unwrap()).unwrap();
}

impl Attempt {
    fn try_it(&self) -> io::Result<()> {
        match self {
            Self::Connect(path) => UnixStream::connect(path).map(drop),
            Self::ConnectAbstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop),
            Self::ConnectTcp(port) => TcpStream::connect(("127.0.0.1", *port)).map(drop),
            Self::Read(path) => File::open(path)?.read_exact(&mut [0]),
            Self::Write(path) => OpenOptions::new().append(true).open(path).map(drop),
            Self::Create(path) => {
                OpenOptions::new().write(true).create_new(true).open(path)?;
                fs::remove_file(path)
            }
            Self::List(path) => fs::read_dir(path)?.next().map_or(Err(io::ErrorKind::NotFound.into()), |_| Ok(())),
            Self::Listen(path) => {
                UnixListener::bind(path)?;
                fs::remove_file(path)
            }
            Self::Signal(pid) => Ok(nix::sys::signal::kill(Pid::from_raw(*pid), None)?),
            Self::Trace(pid) => in_child(|| {
                let nothing: *mut libc::c_void = std::ptr::null_mut();
                // SAFETY: no memory is involved. The tracer's end lets the traced process go.
                Errno::result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, *pid, nothing, nothing) }).map(drop)
            }),
            Self::Descriptor(fd) => {
                // SAFETY: asks for flags of whatever it is.
                Ok(Errno::result(unsafe { libc::fcntl(*fd, libc::F_GETFD) }).map(drop)?)
            }
            Self::Key(key) => {
                const KEYCTL_READ: libc::c_long = 11;
                let nothing: *mut libc::c_char = std::ptr::null_mut();
                // SAFETY: no buffer, of no length.
                Ok(Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_READ, *key, nothing, 0_usize) })
                    .map(drop)?)
            }
            Self::SharedMemory(id) => {
                // SAFETY: all fields are integers.
                let mut found: libc::shmid_ds = unsafe { std::mem::zeroed() };
                // SAFETY: the structure is that of this command.
                Ok(Errno::result(unsafe { libc::shmctl(*id, libc::IPC_STAT, &raw mut found) }).map(drop)?)
            }
            Self::NewUserNamespace => in_child(|| unshare(CloneFlags::CLONE_NEWUSER)),
            Self::Capability => {
                let sets = rustix::thread::capabilities(None)?;
                if (sets.effective | sets.permitted).is_empty() { Err(Errno::EPERM.into()) } else { Ok(()) }
            }
        }
    }
}

/// A process with several threads may not make a user namespace.
fn in_child(what: impl FnOnce() -> nix::Result<()>) -> io::Result<()> {
    // SAFETY: the child makes system calls only.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            let code = what().err().map_or(0, |errno| errno as i32);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => match nix::sys::wait::waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
    }
}
