//! The watch for the end of a process.

use std::{io, os::fd::OwnedFd};

use nexus_model::ProcessIdentity;
use rustix::event::{PollFd, PollFlags, Timespec};
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
    /// Watches exactly that process; none when it has ended, or its pid is another process's now.
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
        // A zombie still has its pid, and nothing else.
        if has_exited(&pidfd).map_err(|source| ProcessError::Wait { pid, source })? {
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
            .ok_or_else(|| error(io::Error::from_raw_os_error(libc::EINVAL)))?;
        match rustix::process::pidfd_send_signal(&self.pidfd, number) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(errno) => Err(error(errno.into())),
        }
    }
}

fn has_exited(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    Ok(rustix::event::poll(&mut fds, Some(&Timespec::default()))? > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        time::Duration,
    };

    use super::*;
    use crate::process::identify;

    /// A child that does not outlive its test.
    struct Sleep(Child);

    impl Sleep {
        fn start() -> (Self, ProcessIdentity) {
            let child = Command::new("sleep").arg("1000").spawn().unwrap();
            let identity = identify(child.id()).unwrap().expect("it lives");
            (Self(child), identity)
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn the_end_is_seen_by_all_who_wait() {
        let (mut sleep, identity) = Sleep::start();
        let watch = ProcessWatch::open(&identity).unwrap().expect("it lives");
        let early = tokio::time::timeout(Duration::from_millis(20), watch.exited()).await;
        assert!(early.is_err(), "it lives");
        assert!(watch.signal(Signal::SIGTERM).unwrap());
        let both = async { tokio::join!(watch.exited(), watch.exited()) };
        let (one, other) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        one.and(other).unwrap();
        watch.exited().await.unwrap();
        assert!(ProcessWatch::open(&identity).unwrap().is_none(), "a zombie is gone");
        sleep.0.wait().unwrap();
        assert!(!watch.signal(Signal::SIGTERM).unwrap(), "there is nobody any more");
        assert!(ProcessWatch::open(&identity).unwrap().is_none());
    }

    #[tokio::test]
    async fn another_process_with_the_same_pid_is_another() {
        let (_sleep, identity) = Sleep::start();
        assert!(ProcessWatch::open(&identity).unwrap().is_some());
        let earlier = ProcessIdentity { start_ticks: identity.start_ticks - 1, ..identity.clone() };
        assert!(ProcessWatch::open(&earlier).unwrap().is_none());
        let last_boot = ProcessIdentity { boot_id: "0".repeat(36), ..identity.clone() };
        assert!(ProcessWatch::open(&last_boot).unwrap().is_none());
        if let Some(inode) = identity.pidfd_inode {
            let other = ProcessIdentity { pidfd_inode: Some(inode + 1), ..identity.clone() };
            assert!(ProcessWatch::open(&other).unwrap().is_none());
        }
        // As recorded by a kernel without that inode.
        let unknown = ProcessIdentity { pidfd_inode: None, ..identity };
        assert!(ProcessWatch::open(&unknown).unwrap().is_some());
    }
}
