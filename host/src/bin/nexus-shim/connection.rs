//! The line to the nexusd that wants the unit started.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use nexus_host::unit::record::{MESSAGE_MAX_BYTES, START_SOCKET, StartAnswer, StartRequest};

pub(crate) struct Connection(UnixStream);

impl Connection {
    /// Connects and reads what to start.
    pub(crate) fn open(runtime_dir: &Path) -> io::Result<(Self, StartRequest)> {
        let stream = UnixStream::connect(runtime_dir.join(START_SOCKET))?;
        let mut line = Vec::new();
        BufReader::new((&stream).take(MESSAGE_MAX_BYTES)).read_until(b'\n', &mut line)?;
        let request = serde_json::from_slice(&line)?;
        Ok((Self(stream), request))
    }

    /// Says how it went. That nobody listens any more is no failure.
    pub(crate) fn answer(&self, answer: &StartAnswer) {
        if let Ok(mut line) = serde_json::to_vec(answer) {
            line.push(b'\n');
            let _ = (&self.0).write_all(&line);
        }
    }
}

/// Readable when nexusd has closed it: it sends nothing after the request.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
