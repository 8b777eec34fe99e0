//! A command whose output is heard as it comes.

use std::{os::fd::OwnedFd, rc::Rc};

use nexus_model::ExitStatus;
use nexus_protocol::{Channel, Command, Ended, Failure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    task::spawn_local,
    time::{Instant, sleep_until},
};

use super::{
    group::Group,
    spawner::{Spawner, Wiring, system},
};

const CHUNK_BYTES: usize = 16 * 1024;

/// Most that a pipe holds without privileges: `/proc/sys/fs/pipe-max-size` as it comes, see `pipe(7)`.
const MAX_PIPE_BYTES: usize = 1024 * 1024;

/// Runs `command` to its end with `input`, or with an empty one, and lets `heard` have what it writes. It and everything
/// that it started are killed when its time is over, and when the future is dropped. What it leaves behind when it ends by
/// itself goes on.
pub(crate) async fn follow(
    spawner: &Spawner,
    command: &Command,
    input: Option<Vec<u8>>,
    mut heard: impl FnMut(Channel, &[u8]),
) -> Result<Ended, Failure> {
    spawner.freezer().thawed().await;
    let deadline = deadline(command);
    let wiring = if input.is_some() { Wiring::Piped } else { Wiring::Outputs };
    let mut child = spawner.spawn(command, wiring)?;
    let mut killer = KillOnDrop(Some(Rc::clone(&child.group)));
    let mut stdout = Output::open(child.stdout.take())?;
    let mut stderr = Output::open(child.stderr.take())?;
    let input = feed(child.stdin.take(), input.unwrap_or_default());
    tokio::pin!(input);
    let (mut is_fed, mut timed_out) = (false, false);

    let status = loop {
        tokio::select! {
            status = &mut child.ended => break status.unwrap_or(ExitStatus::Unknown),
            () = at(deadline), if !timed_out => {
                timed_out = true;
                child.group.kill();
            }
            () = &mut input, if !is_fed => is_fed = true,
            count = stdout.fill(), if stdout.is_open() => heard(Channel::Stdout, stdout.filled(count)),
            count = stderr.fill(), if stderr.is_open() => heard(Channel::Stderr, stderr.filled(count)),
        }
    };
    killer.0 = None;
    child.group.leader_ended();
    // What the command itself wrote is in the pipes by now.
    stdout.drain(|bytes| heard(Channel::Stdout, bytes));
    stderr.drain(|bytes| heard(Channel::Stderr, bytes));
    stdout.leave();
    stderr.leave();
    Ok(Ended { status, timed_out })
}

/// When the command's time is over.
pub(super) fn deadline(command: &Command) -> Option<Instant> {
    command.timeout().and_then(|limit| Instant::now().checked_add(limit))
}

/// Waits for that instant; for ever when there is none.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Writes the command's input and ends it. A command that does not read it is free not to.
async fn feed(stdin: Option<OwnedFd>, input: Vec<u8>) {
    if let Some(Ok(mut pipe)) = stdin.map(pipe::Sender::from_owned_fd) {
        let _ = pipe.write_all(&input).await;
    }
}

/// Kills the group, if there is one still.
struct KillOnDrop(Option<Rc<Group>>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.kill();
        }
    }
}

/// One of a command's outputs.
struct Output {
    pipe: Option<pipe::Receiver>,
    chunk: Box<[u8]>,
}

impl Output {
    fn open(pipe: Option<OwnedFd>) -> Result<Self, Failure> {
        let pipe = pipe.map(pipe::Receiver::from_owned_fd).transpose();
        let pipe = pipe.map_err(|error| system("read a command's output", &error))?;
        Ok(Self { pipe, chunk: vec![0; CHUNK_BYTES].into() })
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads a chunk; 0 is the end. Nothing is lost when the future is dropped.
    async fn fill(&mut self) -> usize {
        match &mut self.pipe {
            Some(pipe) => pipe.read(&mut self.chunk).await.unwrap_or(0),
            None => 0,
        }
    }

    /// What was read.
    fn filled(&mut self, count: usize) -> &[u8] {
        if count == 0 {
            self.pipe = None;
        }
        self.chunk.get(..count).unwrap_or_default()
    }

    /// Reads what is there.
    fn drain(&mut self, mut heard: impl FnMut(&[u8])) {
        // A pipe that is written faster than it is read would keep this going.
        let mut at_most = MAX_PIPE_BYTES;
        while at_most > 0
            && let Some(Ok(count)) = self.pipe.as_ref().map(|pipe| pipe.try_read(&mut self.chunk))
        {
            heard(self.filled(count));
            at_most = at_most.saturating_sub(count);
        }
    }

    /// Who still holds the other end may go on writing.
    fn leave(self) {
        if let Some(pipe) = self.pipe {
            spawn_local(discard(pipe));
        }
    }
}

/// Reads what nobody wants, so that who writes it is not held up.
async fn discard(mut pipe: pipe::Receiver) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while pipe.read(&mut chunk).await.is_ok_and(|count| count > 0) {}
}
