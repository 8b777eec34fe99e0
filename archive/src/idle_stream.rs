//! A stream on which nothing may stand still for long.

use std::{
    io::{self, Read, Write},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

/// Most that is sent at once over vsock. Of more than 32 KiB, with what is around it, the guest's kernel wants that memory in one piece
/// for vsock (`virtio_transport_alloc_pkt`), and when there is none the stream fails with `ENOMEM`; a piece of that size it
/// makes free.
pub const MAX_SEND_BYTES: usize = 28 * 1024;

/// A stream socket, in whatever mode, that is read and written in a blocking way; but when the other side does nothing for
/// a while, that is an error.
#[derive(Debug)]
pub struct IdleStream {
    socket: OwnedFd,
    limit: Duration,
}

impl IdleStream {
    /// That socket, on which nothing may stand still for longer than `limit`.
    #[must_use]
    pub const fn new(socket: OwnedFd, limit: Duration) -> Self {
        Self { socket, limit }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, limit: self.limit })
    }

    /// Ends both directions, also for whoever waits on a clone.
    pub fn close(&self) {
        // It may be closed already.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    fn wait(&self, event: PollFlags) -> io::Result<()> {
        let limit = Timespec::try_from(self.limit).map_err(io::Error::other)?;
        let mut waited = [PollFd::new(&self.socket, event)];
        match poll(&mut waited, Some(&limit)) {
            Ok(0) => {
                let message = format!("nothing has moved for {} s", self.limit.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for IdleStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, read)) => return Ok(read),
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Write for IdleStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..MAX_SEND_BYTES).unwrap_or(bytes);
        loop {
            match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => return Ok(written),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_stands_still_is_an_error_and_what_moves_is_not() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = IdleStream::new(near.into(), Duration::from_millis(50));
        let mut far = IdleStream::new(far.into(), Duration::from_secs(60));
        assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        far.write_all(b"ab").unwrap();
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 2);
        let error = loop {
            if let Err(error) = near.write(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn closing_ends_whoever_waits() {
        let (near, _far) = UnixStream::pair().unwrap();
        let near = IdleStream::new(near.into(), Duration::from_secs(60));
        let mut waiting = near.try_clone().unwrap();
        let reader = std::thread::spawn(move || waiting.read(&mut [0; 8]).unwrap());
        near.close();
        assert_eq!(reader.join().unwrap(), 0);
    }
}
