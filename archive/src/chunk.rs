//! An archive on a stream: chunks, each a length of four bytes, big-endian, and as many bytes; an empty one is the end. So
//! a reader knows the end without understanding the archive, and what is said behind it, or instead of the rest.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
};

use sha2::{Digest, Sha256};

use crate::error::early_end;

/// Longest chunk, in bytes.
pub const MAX_BYTES: usize = 256 << 10;

/// Longest report, in bytes.
pub const MAX_REPORT_BYTES: usize = 4 << 10;

const HEADER: usize = 4;

/// Writes chunks, and counts and digests what is in them.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    /// Room for the length, and what has not been written yet.
    buffer: Vec<u8>,
    digest: Sha256,
}

/// Reads chunks up to the empty one.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// Of the chunk that has begun.
    left: usize,
    is_ended: bool,
    digest: Sha256,
}

impl<W: Write> Writer<W> {
    /// Writes to a sink.
    pub fn new(sink: W) -> Self {
        let mut buffer = Vec::with_capacity(HEADER + MAX_BYTES);
        buffer.extend_from_slice(&[0; HEADER]);
        Self { sink, buffer, digest: Sha256::new() }
    }

    /// Writes what is left, and the end; gives the sink back, and the SHA-256 of all bytes in the chunks.
    ///
    /// # Errors
    /// When the sink takes no more.
    pub fn finish(mut self) -> io::Result<(W, String)> {
        self.flush()?;
        self.sink.write_all(&[0; HEADER])?;
        self.sink.flush()?;
        Ok((self.sink, hexadecimal(self.digest)))
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == HEADER + MAX_BYTES {
            self.flush()?;
        }
        let room = HEADER + MAX_BYTES - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some((length, content)) = self.buffer.split_first_chunk_mut::<HEADER>() else { return Ok(()) };
        if content.is_empty() {
            return Ok(());
        }
        *length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.digest.update(&*content);
        self.sink.write_all(&self.buffer)?;
        self.buffer.truncate(HEADER);
        Ok(())
    }
}

impl<R: Read> Reader<R> {
    /// Reads from a source.
    pub fn new(source: R) -> Self {
        Self { source, left: 0, is_ended: false, digest: Sha256::new() }
    }

    /// Whether the end was read.
    pub const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Reads what is left, up to the end; gives the source back, and the SHA-256 of all bytes in the chunks.
    ///
    /// # Errors
    /// When the source ends before that, or holds no chunks.
    pub fn finish(mut self) -> io::Result<(R, String)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.source, hexadecimal(self.digest)))
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; HEADER];
            self.source.read_exact(&mut length).map_err(early_end)?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk is longer than it may be"));
            }
            self.left = length;
            if length == 0 {
                self.is_ended = true;
                return Ok(0);
            }
        }
        let wanted = buffer.len().min(self.left);
        let read = self.source.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            return Err(early_end(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= read;
        self.digest.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Writes what is said behind the chunks, with its length ahead.
///
/// # Errors
/// When the sink takes no more.
pub fn write_report(mut sink: impl Write, report: &[u8]) -> io::Result<()> {
    let length = u32::try_from(report.len()).map_err(io::Error::other)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(report);
    sink.write_all(&frame)?;
    sink.flush()
}

/// Reads what is said behind the chunks, or while they are under way.
///
/// # Errors
/// When the source ends before that, or it is longer than [`MAX_REPORT_BYTES`].
pub fn read_report(mut source: impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; HEADER];
    source.read_exact(&mut length).map_err(early_end)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REPORT_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a report is longer than it may be"));
    }
    let mut report = vec![0; length];
    source.read_exact(&mut report).map_err(early_end)?;
    Ok(report)
}

fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        // Text takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in vec((any::<u8>(), 0..(MAX_BYTES / 3)), 0..12)) {
            let parts: Vec<_> = parts.into_iter().map(|(byte, length)| vec![byte; length]).collect();
            let mut writer = Writer::new(Vec::new());
            for part in &parts {
                writer.write_all(part).unwrap();
            }
            let (mut bytes, written) = writer.finish().unwrap();
            bytes.extend_from_slice(b"behind");
            let mut reader = Reader::new(bytes.as_slice());
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, parts.concat());
            let (rest, digest) = reader.finish().unwrap();
            prop_assert_eq!((rest, digest), (&b"behind"[..], written));
        }

        #[test]
        fn a_stream_that_breaks_off_is_no_end(cut in 0..20_usize) {
            let mut writer = Writer::new(Vec::new());
            writer.write_all(b"0123456789abc").unwrap();
            let (bytes, _) = writer.finish().unwrap();
            prop_assert!(Reader::new(&bytes[..cut]).finish().is_err());
        }
    }

    #[test]
    fn a_report_is_bounded_and_read_as_it_was_written() {
        let mut bytes = Vec::new();
        write_report(&mut bytes, b"done").unwrap();
        assert_eq!(read_report(bytes.as_slice()).unwrap(), b"done");
        assert!(read_report(&bytes[..7]).is_err());
        bytes[2] = 0xff;
        assert_eq!(read_report(bytes.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_chunk_is_bounded_and_the_digest_is_that_of_the_content() {
        let length = u32::try_from(MAX_BYTES + 1).unwrap().to_be_bytes();
        let error = Reader::new(length.as_slice()).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut writer = Writer::new(Vec::new());
        writer.write_all(b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(writer.finish().unwrap().1, expected);
    }
}
