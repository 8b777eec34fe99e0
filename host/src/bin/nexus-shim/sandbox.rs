//! Building the room in which the programs of a VM live.
//!
//! The keeper moves into a user namespace of its own, in which it may make the others, and forks the first process of a
//! new process namespace: *init*. Init makes the mount, network, IPC and UTS namespaces, builds the root there, gives up
//! all its rights and then only holds the namespaces open; when it ends, the kernel kills everything inside. The programs
//! are the keeper's own children all the same, so their exit status and their host pids are its to know.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{OpenOptionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use nexus_host::unit::{Sandbox, StartFailure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
    unistd::{ForkResult, Pid, chdir, getegid, geteuid, pivot_root, sethostname},
};
use rustix::{
    fs::{CWD, FileType},
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
    process::{PidfdFlags, pidfd_open},
};

use crate::{
    confine::{self, KeeperFd, NAMESPACES},
    kernel,
};

/// Where programs and libraries are. On most distributions all but the first are links into it.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const LINKER_CACHE: &str = "/etc/ld.so.cache";
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];
/// The new root begins as a mount over this folder, which every Linux has; nothing of the old one is used after that.
const MOUNT_POINT: &str = "/proc";

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const READ_WRITE: u64 = libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const DEVICE: u64 = libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOSUID;

/// The process that holds a sandbox's namespaces.
pub(crate) struct Init {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

impl Init {
    /// Builds a sandbox. From then on the children of the keeper are in its process namespace.
    pub(crate) fn start(sandbox: &Sandbox, working_directory: &Path, keeper: &KeeperFd) -> Result<Self, StartFailure> {
        enter_user_namespace()?;
        let (mut reader, mut writer) = io::pipe().step("make a pipe")?;
        let pid = match kernel::fork().step("fork")? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop(reader);
                let built = build(sandbox, working_directory, keeper);
                let told = serde_json::to_vec(&built).is_ok_and(|text| writer.write_all(&text).is_ok());
                if built.is_ok() && told { hold() } else { std::process::exit(1) }
            }
        };
        drop(writer);
        let mut answer = Vec::new();
        let read = reader.read_to_end(&mut answer);
        let built = serde_json::from_slice::<Result<(), StartFailure>>(&answer)
            .unwrap_or_else(|_| read.and(Err(io::ErrorKind::UnexpectedEof.into())).step("hear from its init"));
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::NotFound.into());
        let pidfd = built.and_then(|()| {
            raw.and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).map_err(io::Error::from)).step("watch its init")
        });
        match pidfd {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(failure) => {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                let _ = nix::sys::wait::waitpid(pid, None);
                Err(failure)
            }
        }
    }
}

/// Moves the keeper into a user namespace in which it is who it was, with all rights over what is made in there.
fn enter_user_namespace() -> Result<(), StartFailure> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(no_namespaces)?;
    // Without the first line a user may not write the third, see user_namespaces(7).
    fs::write("/proc/self/setgroups", "deny").map_err(no_namespaces)?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(no_namespaces)?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).map_err(no_namespaces)?;
    // No program gets the rights over a namespace back by making one more. Where /proc/sys can't be written, as in some
    // containers, it could, and still reach nothing that is not in the sandbox.
    let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
    Ok(())
}

/// What init does before it holds.
fn build(sandbox: &Sandbox, working_directory: &Path, keeper: &KeeperFd) -> Result<(), StartFailure> {
    keeper.die_with().step("tie its init to the keeper")?;
    unshare(NAMESPACES).map_err(no_namespaces)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    // The first thing that a security module forbids to those who may make namespaces but not use them.
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(no_namespaces)?;
    sethostname("nexus").step("name the host of the sandbox")?;

    // All that is outside is looked up outside, so that links lead where they lead there.
    let mut trees = Vec::new();
    let mut links = Vec::new();
    for path in SYSTEM.map(Path::new) {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                links.push((path, fs::read_link(path).step_path("read", path)?));
            }
            Ok(_) => trees.push(Tree::open(path, READ_ONLY)?),
            Err(_) => {}
        }
    }
    if Path::new(LINKER_CACHE).exists() {
        trees.push(Tree::open(Path::new(LINKER_CACHE), READ_ONLY)?);
    }
    let devices = DEVICES.iter().map(Path::new).chain(sandbox.devices.iter().map(PathBuf::as_path));
    let read_only = sandbox.read_only.iter().map(|path| (path.as_path(), READ_ONLY));
    let read_write = sandbox.read_write.iter().map(|path| (path.as_path(), READ_WRITE));
    for (path, attributes) in devices.map(|path| (path, DEVICE)).chain(read_only).chain(read_write) {
        trees.push(Tree::open(path, attributes)?);
    }
    // A folder before what lies in it.
    trees.sort_by_key(|tree| tree.path.components().count());

    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("nexus"), MOUNT_POINT, Some("tmpfs"), flags, Some("mode=0755,size=1m")).step("mount a new root")?;
    chdir(MOUNT_POINT).step("enter the new root")?;
    // pivot_root(2) explains the dots: the old root lies on the new one, and is then taken away.
    pivot_root(".", ".").step("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).step("leave the old root")?;
    chdir("/").step("enter the new root")?;
    for (path, target) in links {
        symlink(target, path).step_path("link", path)?;
    }
    for tree in &trees {
        tree.attach()?;
    }
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).step("open the new root")?;
    kernel::restrict_mount(root.as_fd(), READ_ONLY, false).step("make the new root read-only")?;
    chdir(working_directory).step_path("enter", working_directory)?;
    chdir("/").step("enter the new root")?;
    confine::drop_capabilities().step("drop the capabilities of its init")?;
    nix::sys::prctl::set_no_new_privs().step("drop the rights of its init")?;
    keeper.die_with().step("tie its init to the keeper")
}

/// What init does for the rest of its life: be there. Its children are those that the programs left behind.
fn hold() -> ! {
    kernel::ignore_signal(Signal::SIGCHLD);
    kernel::close_inherited();
    loop {
        nix::unistd::pause();
    }
}

/// Something of the host that is to appear in the sandbox, at the same path.
struct Tree {
    path: PathBuf,
    mount: OwnedFd,
}

impl Tree {
    fn open(path: &Path, attributes: u64) -> Result<Self, StartFailure> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let mount = open_tree(CWD, path, flags).step_path("share", path)?;
        kernel::restrict_mount(mount.as_fd(), attributes, true).step_path("restrict", path)?;
        Ok(Self { path: path.to_owned(), mount })
    }

    fn attach(&self) -> Result<(), StartFailure> {
        let path = &self.path;
        // It is there already when a folder around it was shared.
        if fs::metadata(path).is_err() {
            let found = rustix::fs::fstat(&self.mount).step_path("look at", path)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                fs::create_dir_all(path).step_path("make", path)?;
            } else {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).step_path("make", parent)?;
                }
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).step_path("make", path)?;
            }
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.mount, "", CWD, path, flags).step_path("mount", path)
    }
}

fn no_namespaces(error: impl Into<io::Error>) -> StartFailure {
    StartFailure::Namespaces { reason: error.into().to_string() }
}

/// Names the step of a result that is an error.
trait Step<T> {
    fn step(self, step: &str) -> Result<T, StartFailure>;
    fn step_path(self, step: &str, path: &Path) -> Result<T, StartFailure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, StartFailure> {
        self.map_err(|error| StartFailure::Sandbox { step: step.to_owned(), reason: error.into().to_string() })
    }

    fn step_path(self, step: &str, path: &Path) -> Result<T, StartFailure> {
        self.map_err(|error| StartFailure::Sandbox {
            step: format!("{step} {} for the sandbox", path.display()),
            reason: error.into().to_string(),
        })
    }
}
