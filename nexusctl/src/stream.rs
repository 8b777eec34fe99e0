//! Descriptors that came over the bus.

use std::{fs::File, io, os::fd::OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The stream in blocking mode, whatever mode its sender had it in.
pub(crate) fn blocking(stream: OwnedFd) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&stream, FcntlArg::F_GETFL)?);
    fcntl(&stream, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(File::from(stream))
}
