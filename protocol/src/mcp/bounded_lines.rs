//! A bound on the lines of a stream that somebody else cuts.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Reads what `R` does, up to a line that is too long: that is an error of the kind [`io::ErrorKind::InvalidData`].
#[derive(Debug)]
pub struct BoundedLines<R> {
    inner: R,
    limit: usize,
    /// Bytes since the last end of a line.
    line: usize,
}

impl<R> BoundedLines<R> {
    /// `limit` is the longest line in bytes, with its end.
    pub const fn new(inner: R, limit: usize) -> Self {
        Self { inner, limit, line: 0 }
    }

    fn fits(&mut self, bytes: &[u8]) -> bool {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line += piece.len();
            if self.line > self.limit {
                return false;
            }
            if piece.ends_with(b"\n") {
                self.line = 0;
            }
        }
        true
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedLines<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if this.fits(buf.filled().get(before..).unwrap_or_default()) {
            return Poll::Ready(Ok(()));
        }
        // Who fails has read nothing.
        buf.set_filled(before);
        let too_long = format!("a line of more than {} bytes", this.limit);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, too_long)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_line_ends_at_the_limit() {
        for (bytes, fits) in
            [("", true), ("1234\n1234\n", true), ("12345", true), ("12345\n", false), ("1\n123456", false)]
        {
            for piece in [1, 3, 64] {
                let (stream, mut writer) = tokio::io::duplex(piece);
                let mut lines = BoundedLines::new(stream, 5);
                let mut read = Vec::new();
                let writing = async {
                    // What is left when the reader gives up is read by nobody.
                    let _ = writer.write_all(bytes.as_bytes()).await;
                    drop(writer);
                };
                let read = tokio::select! {
                    read = lines.read_to_end(&mut read) => read,
                    read = async { writing.await; std::future::pending().await } => read,
                };
                assert_eq!(read.is_ok(), fits, "{bytes:?} by {piece}");
            }
        }
    }
}
