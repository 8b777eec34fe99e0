//! Mounts that nobody else sees, and that go with the process that made them, whatever becomes of it.

use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::reexec;

/// Runs `inside` as root of a mount namespace of its own, in another process, with a folder to mount on that goes when
/// the mounts have gone. `test` is the full name of the test that calls this.
pub(crate) fn in_mount_namespace(test: &str, inside: impl FnOnce(&Path)) {
    if let Some(folder) = reexec::part() {
        return inside(Path::new(&folder));
    }
    let wrapper: &[&str] = if nix::unistd::geteuid().is_root() {
        &["unshare", "--mount", "--propagation", "private", "--"]
    } else {
        &["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "--"]
    };
    let folder = tempfile::tempdir().unwrap();
    let status = reexec::this_test(wrapper, test, folder.path().to_str().unwrap()).status().unwrap();
    assert!(status.success(), "{test} inside of a mount namespace: {status}");
}

/// Mounts a memory file system of `bytes`.
pub(crate) fn mount_tmpfs(at: &Path, bytes: u64) {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(format!("size={bytes}").as_str())).unwrap();
}

/// Makes a mount read-only.
pub(crate) fn make_read_only(at: &Path) {
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>).unwrap();
}
