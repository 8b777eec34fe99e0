//! The watch for the end of a process.

use std::os::fd::OwnedFd;

use nexus_model::ProcessIdentity;
use tokio::io::{Interest, unix::AsyncFd};

use super::{ProcessError, Signal, identity};

/// A process that is watched through its pidfd, whoever its parent is. The descriptor pins the process: a signal never
/// hits another one that got its pid.
///
/// Dropping the watch does nothing to the process.
#[derive(Debug)]
pub struct ProcessWatch {
    pidfd: AsyncFd<OwnedFd>,
    pid: u32,
}

impl ProcessWatch {
    /// Watches exactly that process; none when it is gone, or its pid is another process's now.
    ///
    /// # Errors
    /// When `/proc` can't be read or no descriptor is left.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn open(process: &ProcessIdentity) -> Result<Option<Self>, ProcessError> {
        let pid = process.pid;
        if identity::boot_id()? != process.boot_id {
            return Ok(None);
        }
        // The descriptor first: a pid that is used again after this has a later start.
        let Some(pidfd) = identity::open(pid)? else { return Ok(None) };
        if identity::start_ticks(pid)? != Some(process.start_ticks) {
            return Ok(None);
        }
        if let (Some(expected), Some(found)) = (process.pidfd_inode, identity::inode(&pidfd))
            && expected != found
        {
            return Ok(None);
        }
        // SAFETY: the `OwnedFd` moves in, so it stays open, and is never replaced while it is registered.
        let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        let pidfd = registered.map_err(|error| ProcessError::Wait { pid, source: error.into() })?;
        Ok(Some(Self { pidfd, pid }))
    }

    /// The process's id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end, which is seen within about 0.1 ms. Can be awaited again afterwards, and by several tasks.
    ///
    /// # Errors
    /// When the reactor is gone.
    pub async fn exited(&self) -> Result<(), ProcessError> {
        // A pidfd stays readable after the end, so the readiness is kept.
        let guard = self.pidfd.readable().await;
        guard.map(|mut guard| guard.retain_ready()).map_err(|source| ProcessError::Wait { pid: self.pid, source })
    }

    /// Sends a signal; false when it has ended already.
    ///
    /// # Errors
    /// When it belongs to somebody else.
    pub fn signal(&self, signal: Signal) -> Result<bool, ProcessError> {
        let error = |source| ProcessError::Signal { pid: self.pid, signal, source };
        let number = rustix::process::Signal::from_named_raw(signal as i32)
            .ok_or_else(|| error(std::io::Error::from_raw_os_error(libc::EINVAL)))?;
        match rustix::process::pidfd_send_signal(&self.pidfd, number) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(errno) => Err(error(errno.into())),
        }
    }
}
