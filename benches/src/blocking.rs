//! What the bench does with descriptors and programs, in threads of their own: the same for Nexus and for what is bare.

use std::{
    fs::File,
    io::{self, Read, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout};

use crate::Outcome;

/// What is read or written at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// How long anything may take: also to copy many files into a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Does something in a thread of its own.
///
/// # Errors
/// When it fails, or takes too long.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Outcome<T> {
    Ok(timeout(PATIENCE, spawn_blocking(work)).await.map_err(|_| "it takes too long")???)
}

/// Runs a program to its end, without a look at what it writes.
///
/// # Errors
/// When it fails.
pub(crate) async fn succeed(mut command: Command) -> Outcome<()> {
    let output = run(move || command.stderr(Stdio::piped()).output()).await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("a program ended with {}: {said}", output.status).into())
}

/// Passes so many bytes on.
///
/// # Errors
/// When they do not come, or are not taken.
pub(crate) fn pass(mut from: impl Read, mut to: impl Write, bytes: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let count = from.read(chunk.get_mut(..most).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{left} of {bytes} bytes did not come")));
        }
        to.write_all(chunk.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    Ok(())
}

/// Sends so many zeros.
///
/// # Errors
/// When they are not taken.
pub(crate) fn fill(to: impl Write, bytes: u64) -> io::Result<()> {
    pass(io::repeat(0), to, bytes)
}

/// Reads so many bytes.
///
/// # Errors
/// When they do not come.
pub(crate) fn take(from: impl Read, bytes: u64) -> io::Result<()> {
    pass(from, io::sink(), bytes)
}

/// Reads the byte that says that a request was done.
///
/// # Errors
/// When it says that it failed.
pub(crate) fn done(mut from: &File) -> io::Result<()> {
    let mut status = [0];
    from.read_exact(&mut status)?;
    if status == [0] { Ok(()) } else { Err(io::Error::other("a program in the guest failed")) }
}

/// Sends one byte, and waits for one; how long that took.
///
/// # Errors
/// When none comes.
pub(crate) fn echo(mut stream: &File) -> io::Result<Duration> {
    let begin = Instant::now();
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok(begin.elapsed())
}
