//! What a connection is asked for.

use std::io::{self, Read, Write};

/// No line is longer.
const MAX_BYTES: usize = 4096;

/// What a connection is for. On the wire it is a line of words with tabs between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Every byte comes back.
    Echo,
    /// So many bytes are taken and dropped; then comes one byte.
    Take(u64),
    /// So many bytes come.
    Give(u64),
    /// A program is run. So many bytes go to its standard input; then what it writes comes, and one byte at its end, which
    /// is 0 when it succeeded.
    Run {
        /// How many bytes follow.
        input: u64,
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// A program is run on a terminal, and killed when the connection ends.
    Terminal(Vec<String>),
}

impl Request {
    /// A program with no input.
    #[must_use]
    pub fn run(argv: &[&str]) -> Self {
        Self::run_with(0, argv)
    }

    /// A program with an input.
    #[must_use]
    pub fn run_with(input: u64, argv: &[&str]) -> Self {
        Self::Run { input, argv: owned(argv) }
    }

    /// A program on a terminal.
    #[must_use]
    pub fn terminal(argv: &[&str]) -> Self {
        Self::Terminal(owned(argv))
    }

    /// Sends it.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let line = match self {
            Self::Echo => "echo".to_owned(),
            Self::Take(bytes) => format!("take\t{bytes}"),
            Self::Give(bytes) => format!("give\t{bytes}"),
            Self::Run { input, argv } => format!("run\t{input}\t{}", argv.join("\t")),
            Self::Terminal(argv) => format!("terminal\t{}", argv.join("\t")),
        };
        to.write_all(format!("{line}\n").as_bytes())
    }

    /// Reads it, and nothing beyond.
    ///
    /// # Errors
    /// When that fails, or it is none.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let line = read_line(from)?;
        Self::parse(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        match words.next()? {
            "echo" => Some(Self::Echo),
            "take" => Some(Self::Take(words.next()?.parse().ok()?)),
            "give" => Some(Self::Give(words.next()?.parse().ok()?)),
            "run" => {
                let input = words.next()?.parse().ok()?;
                Some(Self::Run { input, argv: words.map(str::to_owned).collect() })
            }
            "terminal" => Some(Self::Terminal(words.map(str::to_owned).collect())),
            _ => None,
        }
    }
}

/// Reads a line, and nothing beyond; gives it without its end.
///
/// # Errors
/// When that fails, or it is too long or no text.
pub fn read_line(from: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => break,
            [byte] if line.len() < MAX_BYTES => line.push(byte),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn owned(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written_and_nothing_beyond() {
        let requests = [
            Request::Echo,
            Request::Take(1 << 30),
            Request::Give(0),
            Request::run(&["true"]),
            Request::run_with(7, &["sh", "-c", "cat >/dev/null"]),
            Request::terminal(&["cat"]),
        ];
        for request in requests {
            let mut bytes = Vec::new();
            request.write(&mut bytes).unwrap();
            bytes.extend_from_slice(b"more");
            let mut left = bytes.as_slice();
            assert_eq!(Request::read(&mut left).unwrap(), request);
            assert_eq!(left, b"more");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for bytes in [&b""[..], b"dance\n", b"take\n", b"give\tmuch\n", b"\xff\n", &[b'x'; MAX_BYTES + 2]] {
            let mut bytes = bytes;
            assert!(Request::read(&mut bytes).is_err());
        }
    }
}
