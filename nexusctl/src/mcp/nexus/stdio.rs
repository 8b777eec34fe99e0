//! The standard streams as one stream. Threads copy them: whatever they are, a pipe, a socket or a file, nothing that waits for
//! one of them keeps the process from its end.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream as StdStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nexus_protocol::{
    MAX_TOOLS_LINE_BYTES,
    mcp::{Line, Lines, refusal},
};
use tokio::{net::UnixStream, sync::oneshot};

/// The standard input to read from, and the standard output to write to.
pub(super) struct Streams {
    pub(super) stream: UnixStream,
    /// Told once all that was written before the stream's end is on the standard output, or can't be.
    pub(super) written: oneshot::Receiver<()>,
}

/// Connects them.
pub(super) fn connect() -> io::Result<Streams> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let output = Arc::new(Mutex::new(output));
    let (near, far) = StdStream::pair()?;
    near.set_nonblocking(true)?;
    let into = far.try_clone()?;
    let out = Arc::clone(&output);
    // Whoever listened is gone when the process is about to end.
    thread::spawn(move || {
        // Of a client or a server that has enough the other way tells.
        let _ = inbound(input, &into, &out);
        into.shutdown(Shutdown::Write)
    });
    let (told, written) = oneshot::channel();
    thread::spawn(move || {
        let _ = outbound(far, &output);
        told.send(())
    });
    Ok(Streams { stream: UnixStream::from_std(near)?, written })
}

/// From the client, as far as the SDK would answer it.
fn inbound(input: impl Read, mut into: impl Write, out: &Mutex<impl Write>) -> io::Result<()> {
    let mut lines = Lines::new(input, MAX_TOOLS_LINE_BYTES);
    loop {
        let line = lines.next()?;
        match (refusal(&line), line) {
            (Some(refusal), _) => write(out, format!("{refusal}\n").as_bytes())?,
            (None, Line::Whole(line)) => into.write_all(&line)?,
            (None, _) => return Ok(()),
        }
    }
}

/// To the client, which reads whole lines only.
fn outbound(from: impl Read, out: &Mutex<impl Write>) -> io::Result<()> {
    // What is said here is bounded by who says it.
    let mut lines = Lines::new(from, usize::MAX);
    while let Line::Whole(line) = lines.next()? {
        write(out, &line)?;
    }
    Ok(())
}

fn write(out: &Mutex<impl Write>, line: &[u8]) -> io::Result<()> {
    out.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_message_that_no_server_would_answer_is_answered_and_the_next_one_passed_on() {
        let too_long = vec![b'x'; MAX_TOOLS_LINE_BYTES];
        for (wrong, words) in [(&too_long[..], "16777216"), (b"{\"id\":1,", "no JSON"), (b"\"\xff\"", "no JSON")] {
            let input = [wrong, b"\n\n{}\nrest"].concat();
            let (mut into, out) = (Vec::new(), Mutex::new(Vec::new()));
            inbound(input.as_slice(), &mut into, &out).unwrap();
            assert_eq!(into, b"\n{}\n");
            let answer: Value = serde_json::from_slice(&out.into_inner().unwrap()).unwrap();
            assert_eq!(answer["id"], Value::Null);
            assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
        }
    }

    #[test]
    fn lines_are_written_as_they_are() {
        let out = Mutex::new(Vec::new());
        outbound(&b"{\"a\":1}\n{}\n"[..], &out).unwrap();
        assert_eq!(out.into_inner().unwrap(), b"{\"a\":1}\n{}\n");
    }
}
