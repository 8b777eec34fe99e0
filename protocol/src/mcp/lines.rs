//! Lines of bounded length.

use std::io::{self, BufRead, BufReader, Read};

/// Cuts a stream into lines.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, with its end.
    Whole(Vec<u8>),
    /// A line that was over the limit, and is lost.
    TooLong,
    /// The stream's end. A line that has none is not one.
    End,
}

impl<R: Read> Lines<R> {
    /// Of at most `limit` bytes, with their end.
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), limit }
    }

    /// Waits for the next line. What is too long is not kept.
    ///
    /// # Errors
    /// What the reader fails with.
    #[expect(clippy::should_implement_trait, reason = "its end is a line of its own, and comes again")]
    pub fn next(&mut self) -> io::Result<Line> {
        let (mut line, mut too_long) = (Vec::new(), false);
        loop {
            let available = match self.reader.fill_buf() {
                Ok([]) => return Ok(Line::End),
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|byte| *byte == b'\n').map(|index| index + 1);
            let count = end.unwrap_or(available.len());
            too_long |= line.len() + count > self.limit;
            if too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(available.get(..count).unwrap_or_default());
            }
            self.reader.consume(count);
            if end.is_some() {
                return Ok(if too_long { Line::TooLong } else { Line::Whole(line) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads so many bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    #[test]
    fn lines_are_found_however_they_come() {
        let whole = |text: &str| Line::Whole(text.into());
        for piece in [1, 2, 3, 100] {
            let mut lines = Lines::new(Pieces(b"1234\n\n12345\n123456789\n1\nrest", piece), 5);
            let expected =
                [whole("1234\n"), whole("\n"), Line::TooLong, Line::TooLong, whole("1\n"), Line::End, Line::End];
            for expected in expected {
                assert_eq!(lines.next().unwrap(), expected, "{piece}");
            }
        }
    }
}
