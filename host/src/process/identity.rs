//! What makes a process that process.

use std::{fs, io, os::fd::OwnedFd, path::PathBuf};

use nexus_model::ProcessIdentity;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{ProcessError, stat};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// `PID_FS_MAGIC` of the kernel's `include/uapi/linux/magic.h`: a pidfd lies on pidfs, so its inode is never used twice.
const PID_FS_MAGIC: u64 = 0x5049_4446;

/// The boot that this machine runs in.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> Result<String, ProcessError> {
    let text =
        fs::read_to_string(BOOT_ID).map_err(|source| ProcessError::Read { path: PathBuf::from(BOOT_ID), source })?;
    Ok(text.trim_end().to_owned())
}

/// The identity of the process that has `pid` now; none when there is none.
///
/// # Errors
/// When `/proc` can't be read or no descriptor is left.
pub fn identify(pid: u32) -> Result<Option<ProcessIdentity>, ProcessError> {
    // The descriptor first: what is read while it is still open and alive belongs to it.
    let Some(pidfd) = open(pid)? else { return Ok(None) };
    let Some(start_ticks) = start_ticks(pid)? else { return Ok(None) };
    Ok(Some(ProcessIdentity { pid, start_ticks, boot_id: boot_id()?, pidfd_inode: inode(&pidfd) }))
}

/// A descriptor of the process with `pid`; none when there is none.
pub(super) fn open(pid: u32) -> Result<Option<OwnedFd>, ProcessError> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // EINVAL: the pid is that of a thread now.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(errno) => Err(ProcessError::Open { pid, source: errno.into() }),
    }
}

/// The pidfd's inode, where that is unique.
pub(super) fn inode(pidfd: &OwnedFd) -> Option<u64> {
    let file_system = rustix::fs::fstatfs(pidfd).ok()?;
    // The type of `f_type` differs between architectures; the magic number fits all of them.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    let on_pidfs = file_system.f_type as u64 == PID_FS_MAGIC;
    on_pidfs.then(|| rustix::fs::fstat(pidfd).ok()).flatten().map(|stat| stat.st_ino)
}

/// Field 22 of `/proc/<pid>/stat`; none when there is no such process.
pub(super) fn start_ticks(pid: u32) -> Result<Option<u64>, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let stat = match fs::read(&path) {
        Ok(stat) => stat,
        // ESRCH: it ended between the opening and the reading.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
            return Ok(None);
        }
        Err(source) => return Err(ProcessError::Read { path, source }),
    };
    parse_start_ticks(&stat).map(Some).ok_or(ProcessError::Stat { pid })
}

fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    stat::from_third(stat)?.nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_shift_the_fields() {
        let mut stat = b"42 (a) R 1 \xff\n(b)) S".to_vec();
        for field in 4..=52 {
            stat.extend_from_slice(format!(" {field}").as_bytes());
        }
        assert_eq!(parse_start_ticks(&stat), Some(22));
        assert_eq!(parse_start_ticks(b"42 (short) S 1 2"), None);
        assert_eq!(parse_start_ticks(b""), None);
    }

    #[test]
    fn we_are_who_we_are() {
        let me = identify(std::process::id()).unwrap().expect("this process lives");
        assert_eq!(identify(std::process::id()).unwrap(), Some(me.clone()));
        assert_eq!(me.boot_id.len(), 36);
        assert!(me.start_ticks > 0);
    }

    #[test]
    fn nobody_has_no_identity() {
        assert_eq!(identify(0).unwrap(), None);
        assert_eq!(identify(u32::MAX).unwrap(), None);
        assert_eq!(identify(i32::MAX as u32).unwrap(), None);
    }
}
