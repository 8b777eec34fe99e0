use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, SFlag, fstat},
};
use tokio::net::UnixStream;

/// Connects to the Unix socket at `path`, which a VMM made in a folder that is its own to write: so what is there must
/// be a socket and no link to somebody else's, such as the session bus. Connecting through the descriptor closes the
/// gap between the look and the use, and frees the path from the 107 bytes that a socket address holds.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let socket: OwnedFd = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&socket)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}
