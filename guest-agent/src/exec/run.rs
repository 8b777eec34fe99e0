//! A command whose output is kept for its one caller.

use std::{os::fd::OwnedFd, rc::Rc};

use nexus_model::ExitStatus;
use nexus_protocol::{Blob, Command, Failure, MAX_RUN_OUTPUT_BYTES, Ran};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    task::spawn_local,
    time::{Instant, sleep_until},
};

use super::{
    group::Group,
    spawner::{Spawner, Wiring, system},
};

const CHUNK_BYTES: usize = 16 * 1024;

/// Runs `command` to its end. It and everything that it started are killed when its time is over, and when the future
/// is dropped. What it leaves behind when it ends by itself goes on.
pub(crate) async fn run(spawner: &Spawner, command: &Command) -> Result<Ran, Failure> {
    let deadline = deadline(command);
    let mut child = spawner.spawn(command, Wiring::Null)?;
    let mut killer = KillOnDrop(Some(Rc::clone(&child.group)));
    let mut budget = Budget { bytes: MAX_RUN_OUTPUT_BYTES, truncated: false };
    let mut stdout = Output::open(child.stdout.take())?;
    let mut stderr = Output::open(child.stderr.take())?;
    let mut timed_out = false;

    let status = loop {
        tokio::select! {
            status = &mut child.ended => break status.unwrap_or(ExitStatus::Unknown),
            () = at(deadline), if !timed_out => {
                timed_out = true;
                child.group.kill();
            }
            count = stdout.fill(), if stdout.is_open() => stdout.keep(count, &mut budget),
            count = stderr.fill(), if stderr.is_open() => stderr.keep(count, &mut budget),
        }
    };
    killer.0 = None;
    child.group.leader_ended();
    // What the command itself wrote is in the pipes by now.
    stdout.keep_what_is_there(&mut budget);
    stderr.keep_what_is_there(&mut budget);
    Ok(Ran {
        status,
        timed_out,
        stdout: Blob(stdout.finish()),
        stderr: Blob(stderr.finish()),
        truncated: budget.truncated,
    })
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

/// Kills the group, if there is one still.
struct KillOnDrop(Option<Rc<Group>>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.kill();
        }
    }
}

/// How much may still be kept, of both outputs together.
struct Budget {
    bytes: usize,
    truncated: bool,
}

/// One of a command's outputs.
struct Output {
    pipe: Option<pipe::Receiver>,
    chunk: Box<[u8]>,
    kept: Vec<u8>,
}

impl Output {
    fn open(pipe: Option<OwnedFd>) -> Result<Self, Failure> {
        let pipe = pipe.map(pipe::Receiver::from_owned_fd).transpose();
        let pipe = pipe.map_err(|error| system("read a command's output", &error))?;
        Ok(Self { pipe, chunk: vec![0; CHUNK_BYTES].into(), kept: Vec::new() })
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

    fn keep(&mut self, count: usize, budget: &mut Budget) {
        if count == 0 {
            self.pipe = None;
        }
        let wanted = count.min(budget.bytes);
        budget.bytes -= wanted;
        budget.truncated |= wanted < count;
        self.kept.extend_from_slice(self.chunk.get(..wanted).unwrap_or_default());
    }

    fn keep_what_is_there(&mut self, budget: &mut Budget) {
        // A pipe that is written faster than it is read would keep this going.
        let mut at_most = MAX_RUN_OUTPUT_BYTES;
        while at_most > 0
            && let Some(Ok(count)) = self.pipe.as_ref().map(|pipe| pipe.try_read(&mut self.chunk))
        {
            self.keep(count, budget);
            at_most = at_most.saturating_sub(count);
        }
    }

    /// What was kept. Who still holds the other end may go on writing.
    fn finish(self) -> Vec<u8> {
        if let Some(pipe) = self.pipe {
            spawn_local(discard(pipe));
        }
        self.kept
    }
}

/// Reads what nobody wants, so that who writes it is not held up.
pub(crate) async fn discard(mut pipe: pipe::Receiver) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while pipe.read(&mut chunk).await.is_ok_and(|count| count > 0) {}
}
