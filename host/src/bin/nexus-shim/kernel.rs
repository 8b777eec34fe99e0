//! System calls that no crate wraps safely for a program with one thread.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::unistd::ForkResult;

/// Forks.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: this program has one thread, so the child may do whatever the parent may.
    unsafe { nix::unistd::fork() }
}

/// Closes every descriptor but standard input, output and error.
pub(crate) fn close_inherited() {
    // SAFETY: called first in `main`, and by the init of a room that uses nothing afterwards: nobody owns a descriptor.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Lets no descriptor but standard input, output and error pass an exec.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: no descriptor is closed now, only flags change.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    check(result.into())
}

/// Gives up, for itself and all that it will ever execute, every capability that a program file could grant.
pub(crate) fn empty_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result.into()) {
            // One more than this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// Leaves the user's session keyring for an empty one.
pub(crate) fn leave_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring, see keyctl(2).
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    match check(result) {
        // No keyrings in this kernel, or a filter that forbids them to all that we start as well.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        result => result,
    }
}

/// Adds attributes (`MOUNT_ATTR_…`) to a mount, and to those below it when `recursive`.
pub(crate) fn restrict_mount(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Lets a signal do what it does by default again.
pub(crate) fn reset_signal(signal: nix::sys::signal::Signal) {
    // SAFETY: the default action is no handler of ours.
    let _ = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
}

/// Ignores a signal; for `SIGCHLD` that also reaps children.
pub(crate) fn ignore_signal(signal: nix::sys::signal::Signal) {
    // SAFETY: to ignore is no handler of ours.
    let _ = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) };
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
