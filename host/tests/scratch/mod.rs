//! Places to test in: folders, and file systems of a kind on loop devices that nothing outlives.

#![allow(dead_code, reason = "every test file takes what it needs")]

use std::{
    ffi::CStr,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use tempfile::TempDir;

#[path = "../../../tests/harness/required.rs"]
mod required;

pub(crate) use required::not_run;

/// The user `nobody`.
pub(crate) const NOBODY: u32 = 65534;

/// A file system of its own, in a mount namespace of the calling thread: when the thread ends, however it does, the
/// mount goes, and the loop device with it.
pub(crate) struct LoopFs {
    mount: PathBuf,
    _folder: TempDir,
}

impl LoopFs {
    /// Makes one with `mkfs.<kind>`; `None`, with the reason printed, where that can't be done.
    pub(crate) fn new(kind: &str, mebibytes: u64) -> Option<Self> {
        if !geteuid().is_root() {
            not_run("only root can mount a loop device");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
        fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(&mount).unwrap();
        let mut mkfs = Command::new(format!("/usr/sbin/mkfs.{kind}"));
        if kind.starts_with("ext") {
            mkfs.args(["-q", "-F", "-m", "0"]);
        } else {
            mkfs.arg(if kind == "btrfs" { "-qf" } else { "-q" });
        }
        let Ok(made) = mkfs.arg(&image).output() else {
            not_run(&format!("mkfs.{kind} is not installed"));
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        if let Err(error) = private_mounts() {
            not_run(&format!("no mount namespace can be had: {error}"));
            return None;
        }
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount).output().unwrap();
        if !mounted.status.success() {
            not_run(&format!("no loop mount of {kind}: {}", String::from_utf8_lossy(&mounted.stderr)));
            return None;
        }
        // The loop device keeps it for as long as it needs it.
        fs::remove_file(&image).unwrap();
        Some(Self { mount, _folder: folder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// A folder in it that belongs to `nobody`.
    pub(crate) fn folder_of_nobody(&self) -> PathBuf {
        let folder = self.mount.join("home");
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        // The way to it is as private as temporary folders are.
        fs::set_permissions(self._folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&self.mount, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let _ = umount2(&self.mount, MntFlags::MNT_DETACH);
    }
}

fn private_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&CStr>, "/", None::<&CStr>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&CStr>)
}

/// Runs `work` on a thread that is `nobody`, without any capability, and so are the processes that it starts.
pub(crate) fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            become_nobody();
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn become_nobody() {
    let id = libc::c_long::from(NOBODY);
    // SAFETY: these system calls take numbers, and a null pointer for a list of no groups. Called directly, not through
    // libc, they change the credentials of this thread only, which is about to do nothing but the test's work.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, id, id, id),
            libc::syscall(libc::SYS_setresuid, id, id, id),
        ]
    };
    assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
    assert_eq!(geteuid().as_raw(), NOBODY);
}

/// Names in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Permission bits.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
