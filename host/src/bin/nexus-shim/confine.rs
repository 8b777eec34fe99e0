//! The last steps of a program before it is executed.

use std::{io, os::fd::OwnedFd, path::PathBuf, process};

use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::SigSet, signal::Signal},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities},
};

use crate::kernel;

/// What a program is confined to.
pub(crate) struct Confinement {
    /// The sandbox's init, whose namespaces it enters.
    pub(crate) init: Option<OwnedFd>,
    /// Inside the sandbox.
    pub(crate) working_directory: PathBuf,
    /// The keeper, without which no program lives.
    pub(crate) keeper: KeeperFd,
}

impl Confinement {
    /// Confines the calling process, between fork and exec.
    pub(crate) fn enter(&self) -> io::Result<()> {
        if let Some(init) = &self.init {
            setns(init, NAMESPACES)?;
        }
        nix::unistd::chdir(&self.working_directory)?;
        nix::unistd::setsid()?;
        SigSet::empty().thread_set_mask()?;
        kernel::leave_session_keyring()?;
        if self.init.is_some() {
            drop_capabilities()?;
        }
        prctl::set_no_new_privs()?;
        self.keeper.die_with()?;
        kernel::close_on_exec()
    }
}

/// The namespaces of the sandbox's init that programs enter. They are in its user and process namespaces from the start,
/// as all children of the keeper are.
pub(crate) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);

/// Gives up all capabilities for good.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // While there still is the one that this needs.
    kernel::empty_bounding_set()?;
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

/// A pidfd of the keeper, held by its children.
pub(crate) struct KeeperFd(OwnedFd);

impl KeeperFd {
    pub(crate) fn open() -> io::Result<Self> {
        let me = i32::try_from(process::id()).ok().and_then(Pid::from_raw);
        let me = me.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok(Self(pidfd_open(me, PidfdFlags::empty())?))
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Makes the kernel kill the calling process when the keeper dies.
    pub(crate) fn die_with(&self) -> io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have died before that; in another process namespace its pid says nothing.
        let mut poll = [PollFd::new(&self.0, PollFlags::IN)];
        match rustix::event::poll(&mut poll, Some(&Timespec::default()))? {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }
}
