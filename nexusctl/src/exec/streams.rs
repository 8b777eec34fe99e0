//! Copying a command's streams. Each has a thread of its own: reading a terminal or a file has no other way to wait, and
//! a slow one of them holds up no other.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    failure::{Exit, Failure},
    output::sentence,
    stream::blocking,
};

/// A command's streams, as `Guest.Exec` gives them.
pub(super) struct Streams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Input,
    Output,
    Error,
}

/// A stream has come to its end.
pub(super) struct Copied {
    pub(super) channel: Channel,
    pub(super) result: Result<(), Failure>,
}

impl Streams {
    /// Copies them until their ends, and tells of each. Without `interactive` the command's input is empty.
    pub(super) fn copy(self, interactive: bool, copied: &UnboundedSender<Copied>) {
        let Self { stdin, stdout, stderr } = self;
        if interactive {
            spawn(Channel::Input, copied, move || {
                // Dropped at the end: that ends the command's input.
                let into = ours(stdin)?;
                input(io::stdin().as_fd(), into)
            });
        } else {
            drop(stdin);
        }
        spawn(Channel::Output, copied, move || output(ours(stdout)?, io::stdout().as_fd(), "output"));
        spawn(Channel::Error, copied, move || output(ours(stderr)?, io::stderr().as_fd(), "errors"));
    }
}

fn spawn(
    channel: Channel,
    copied: &UnboundedSender<Copied>,
    copy: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) {
    let copied = copied.clone();
    // Whoever listened is gone when the process is about to end.
    thread::spawn(move || copied.send(Copied { channel, result: copy() }));
}

/// A stream of the command's, to be read or written here.
fn ours(stream: OwnedFd) -> Result<File, Failure> {
    blocking(stream).map_err(|error| failed("use a stream of the command", &error))
}

/// Without the buffers and locks of [`std::io`]: bytes are passed on as they come.
fn unbuffered(stream: BorrowedFd<'_>) -> Result<File, Failure> {
    let own = stream.try_clone_to_owned().map_err(|error| failed("use the caller's streams", &error))?;
    Ok(File::from(own))
}

/// From the caller to the command. A command that does not read any more, or has ended, is no failure.
fn input(from: BorrowedFd<'_>, mut into: File) -> Result<(), Failure> {
    let mut from = unbuffered(from)?;
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = read(&mut from, &mut chunk) {
        if into.write_all(chunk.get(..count).unwrap_or_default()).is_err() {
            break;
        }
    }
    Ok(())
}

/// From the command to the caller. When the caller does not read any more the command's stream is closed, which is to the
/// command what a closed pipe is.
fn output(mut from: File, into: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    let mut into = unbuffered(into)?;
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = match read(&mut from, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) => return Err(failed(&format!("read all of the command's {name}"), &error)),
        };
        match into.write_all(chunk.get(..count).unwrap_or_default()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(failed(&format!("write the command's {name}"), &error)),
        }
    }
}

fn read(from: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what}")).because(sentence(&error.to_string())).exit(Exit::NOT_RUN)
}

#[cfg(test)]
mod tests {
    use std::{io::Seek, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn every_byte_arrives_whatever_mode_the_stream_was_in() {
        let (mut command, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let bytes: Vec<u8> = (0..1_000_003_u32).flat_map(u32::to_le_bytes).collect();
        let sent = bytes.clone();
        let writer = thread::spawn(move || command.write_all(&sent));
        let mut file = tempfile::tempfile().unwrap();
        output(blocking(ours.into()).unwrap(), file.as_fd(), "output").unwrap();
        writer.join().unwrap().unwrap();
        let mut copied = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut copied).unwrap();
        assert!(copied == bytes, "{} of {} bytes", copied.len(), bytes.len());
    }

    #[test]
    fn a_reader_that_is_gone_closes_the_commands_stream() {
        let (mut command, ours) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        command.write_all(b"nobody reads this").unwrap();
        output(blocking(ours.into()).unwrap(), writer.as_fd(), "output").unwrap();
        assert_eq!(command.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn output_that_can_not_be_written_is_a_failure() {
        let (mut command, ours) = UnixStream::pair().unwrap();
        command.write_all(b"this has no place").unwrap();
        drop(command);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let failure = output(blocking(ours.into()).unwrap(), full.as_fd(), "output").unwrap_err();
        assert_eq!(failure.code(), Exit::NOT_RUN);
    }

    #[test]
    fn the_end_of_the_input_is_passed_on() {
        let (mut command, ours) = UnixStream::pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"all of it").unwrap();
        drop(writer);
        input(reader.as_fd(), blocking(ours.into()).unwrap()).unwrap();
        let mut read = String::new();
        command.read_to_string(&mut read).unwrap();
        assert_eq!(read, "all of it");
    }
}
