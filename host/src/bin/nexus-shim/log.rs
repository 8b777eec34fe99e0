//! A program's output, kept within bounds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeReader, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::PathBuf,
};

use nexus_host::unit::Log;
use rustix::fs::OFlags;

/// Enough to empty a full pipe, so that one flooding program does not starve the rest.
const CHUNK_BYTES: usize = 64 << 10;

/// What a pipe had.
#[derive(PartialEq, Eq)]
pub(crate) enum Copied {
    /// Something.
    Some,
    /// Nothing yet.
    Nothing,
    /// Nothing ever again.
    End,
}

/// Copies what comes through a pipe into a file. What can't be written is lost: a full disk must not stop a VM.
pub(crate) struct LogPump {
    pipe: PipeReader,
    log: Log,
    file: Option<File>,
    written: u64,
}

impl LogPump {
    /// Opens the log; the program gets the other end of `pipe`.
    pub(crate) fn open(log: Log, pipe: PipeReader) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let file = open(&log.path)?;
        let written = file.metadata()?.len();
        Ok(Self { pipe, log, file: Some(file), written })
    }

    /// Copies what is there.
    pub(crate) fn copy(&mut self) -> Copied {
        let mut chunk = [0; CHUNK_BYTES];
        match self.pipe.read(&mut chunk) {
            Ok(0) => Copied::End,
            Ok(length) => {
                self.append(&chunk[..length]);
                Copied::Some
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Copied::Some,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Copied::Nothing,
            Err(_) => Copied::End,
        }
    }

    /// Copies the rest, after the program's end.
    pub(crate) fn finish(mut self) {
        // More than a pipe can hold: then somebody else still writes, and is not waited for.
        for _ in 0..16 {
            if self.copy() != Copied::Some {
                return;
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        if self.written > 0 && self.written + length > self.log.max_bytes {
            self.rotate();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
        self.written += length;
    }

    fn rotate(&mut self) {
        let mut old = self.log.path.clone().into_os_string();
        old.push(".1");
        match fs::rename(&self.log.path, PathBuf::from(old)) {
            Ok(()) => self.file = open(&self.log.path).ok(),
            Err(_) => self.file = open(&self.log.path).ok().filter(|file| file.set_len(0).is_ok()),
        }
        self.written = 0;
    }
}

impl AsFd for LogPump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}
