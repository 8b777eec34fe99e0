//! A terminal, and the command on it.

use std::{
    fs::File,
    io,
    process::{Child, Command},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
};

/// A program on a terminal of its own, killed when it is dropped.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
}

impl Terminal {
    /// Runs it.
    ///
    /// # Errors
    /// When there is no terminal, or it can't be executed.
    pub fn run(argv: &[String]) -> io::Result<Self> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let pty = openpty(None, None)?;
        for side in [&pty.master, &pty.slave] {
            fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let mut command = Command::new(program);
        command.args(arguments).stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave);
        Ok(Self { master: pty.master.into(), child: command.spawn()? })
    }

    /// What is typed, and what is shown.
    #[must_use]
    pub const fn stream(&self) -> &File {
        &self.master
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
