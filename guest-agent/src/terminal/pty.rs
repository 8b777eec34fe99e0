//! The two sides of a terminal.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nexus_protocol::TerminalSize;
use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    pty::openpty,
    sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr},
};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

/// A pseudoterminal. The slave's side is kept open, so that the master's does not end before the command does.
#[derive(Debug)]
pub(super) struct Pty {
    master: AsyncFd<OwnedFd>,
    slave: OwnedFd,
}

impl Pty {
    /// A new one, whose line editing knows that characters are UTF-8.
    pub(super) fn open(size: TerminalSize) -> io::Result<Self> {
        let pty = openpty(None, None)?;
        for side in [&pty.master, &pty.slave] {
            fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        let mut settings = tcgetattr(&pty.slave)?;
        settings.input_flags.insert(InputFlags::IUTF8);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings)?;
        // SAFETY: an `OwnedFd` is the same open descriptor until it is dropped, and the `AsyncFd` keeps it to itself.
        let master = unsafe { AsyncFd::register(pty.master)? };
        let pty = Self { master, slave: pty.slave };
        pty.resize(size)?;
        Ok(pty)
    }

    /// The command's side.
    pub(super) const fn slave(&self) -> &OwnedFd {
        &self.slave
    }

    /// Gives it another size; the kernel tells the processes on it (SIGWINCH).
    pub(super) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize { ws_col: size.columns(), ws_row: size.rows(), ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.slave, size)?)
    }

    /// Reads what the command has written. Nothing is lost when the future is dropped.
    pub(super) async fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            match ready.try_io(|master| read(master.get_ref(), chunk)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_) => {}
            }
        }
    }

    /// Reads what is there already. That is all that a command which has ended wrote: the kernel finishes passing it on
    /// before it says that there is nothing.
    pub(super) fn read_now(&self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            match read(self.master.as_fd(), chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Types something; how much of it there was room for, once there is any.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.writable().await?;
            match ready.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_) => {}
            }
        }
    }
}

fn read(master: impl AsFd, chunk: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(master, chunk)?)
}
