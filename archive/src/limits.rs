//! How much an archive may be.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

pub(crate) const MAX_DEPTH: usize = 128;
pub(crate) const MAX_PATH_BYTES: usize = 4095;

/// How much an archive may hold. What is over it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of content that take room.
    pub bytes: u64,
    /// Bytes of content with the holes.
    pub length: u64,
}

impl Limits {
    /// Most folders above a file.
    pub const MAX_DEPTH: usize = MAX_DEPTH;
    /// Most bytes of what is not content, between two contents: the reader keeps them in memory.
    pub const MAX_HEADER_BYTES: u64 = 1 << 20;

    /// For that many bytes, and four million files in as much as a file system of 16 TiB holds.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        Self { entries: 4 << 20, bytes, length: 16 << 40 }
    }
}

/// Ends a header, or what is behind the last entry, that goes on and on.
#[derive(Debug)]
pub struct Ration<R> {
    reader: R,
    left: Rc<Cell<u64>>,
}

impl<R> Ration<R> {
    /// A reader of which no more may be read than `left` has left.
    pub const fn new(reader: R, left: Rc<Cell<u64>>) -> Self {
        Self { reader, left }
    }

    /// The reader itself.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: Read> Read for Ration<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let Some(left) = self.left.get().checked_sub(read as u64) else {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "it has too much that is content of no file"));
        };
        self.left.set(left);
        Ok(read)
    }
}
