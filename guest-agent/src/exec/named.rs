//! Commands that have a number, since they outlive the connection on which they were asked for.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use nexus_model::ExitStatus;
use nexus_protocol::{
    Channel, Command, Ended, ExecInfo, ExecState, Failure, FailureKind, Started, StreamHeader, Text, Token,
};
use rustix::process::Signal;
use tokio::{sync::watch, task::spawn_local, time::sleep};

use super::{
    attachment::{Attachment, Side},
    follow::{at, deadline},
    group::Group,
    leader::Leader,
    spawner::{Child, Spawner, Wiring},
};
use crate::streams::{Announced, Joint, Open, Streams};

/// As many run at a time.
const MAX_RUNNING: usize = 256;

/// As many that have ended are remembered, the newest ones.
const MAX_ENDED: usize = 256;

/// How long the host has to open a command's streams.
const STREAMS_DEADLINE: Duration = Duration::from_secs(30);

/// The commands that run, and those that ended lately.
#[derive(Clone, Debug)]
pub(crate) struct ExecTable {
    state: Rc<RefCell<State>>,
}

#[derive(Debug)]
struct State {
    next: u64,
    execs: BTreeMap<u64, Exec>,
    /// In the order of their end.
    ended: VecDeque<u64>,
}

#[derive(Debug)]
struct Exec {
    argv: Vec<Text>,
    token: Token,
    group: Rc<Group>,
    ended: watch::Receiver<Option<Ended>>,
    channels: Channels,
    /// While a stream of its stdio may be opened.
    stdio: Option<Joint>,
    attachment: Rc<Attachment>,
}

/// The command's end of a stream that the host has claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) end: OwnedFd,
    pub(crate) attachment: Rc<Attachment>,
    pub(crate) open: Rc<Open>,
}

/// A command's ends of its streams that the host has not claimed yet.
#[derive(Debug)]
struct Channels {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Channels {
    fn claim(&mut self, channel: Channel) -> Option<OwnedFd> {
        match channel {
            Channel::Stdin => self.stdin.take(),
            Channel::Stdout => self.stdout.take(),
            Channel::Stderr => self.stderr.take(),
        }
    }

    const fn are_claimed(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }
}

impl ExecTable {
    /// An empty table. Its numbers begin somewhere else in each run of the agent, so that one from an earlier run means
    /// nothing instead of something else.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let next = (u64::from(getrandom::u32()?) << 16) + 1;
        let state = State { next, execs: BTreeMap::new(), ended: VecDeque::new() };
        Ok(Self { state: Rc::new(RefCell::new(state)) })
    }

    /// Starts a command. It is killed when the host opens none of its streams in time.
    pub(crate) fn start(&self, spawner: &Spawner, command: &Command, stdio: Announced) -> Result<Started, Failure> {
        let stream = Some(stdio.number);
        let (leader, token) = self.launch(spawner, command, Wiring::Piped, Some(Joint::new(stdio)))?;
        let exec = leader.exec();
        let table = self.clone();
        spawn_local(async move {
            sleep(STREAMS_DEADLINE).await;
            table.give_up_streams(exec);
        });
        Ok(Started { exec, token, stream })
    }

    /// Starts a command without streams; its number.
    pub(crate) fn detach(&self, spawner: &Spawner, command: &Command) -> Result<u64, Failure> {
        self.launch(spawner, command, Wiring::Null, None).map(|(leader, _)| leader.exec())
    }

    /// Starts a command on a terminal, of which this is the slave's side; the user's login shell, without arguments.
    pub(crate) fn start_on(&self, spawner: &Spawner, command: &Command, tty: &OwnedFd) -> Result<Leader, Failure> {
        self.launch(spawner, command, Wiring::Terminal(tty), None).map(|(leader, _)| leader)
    }

    fn launch(
        &self,
        spawner: &Spawner,
        command: &Command,
        wiring: Wiring<'_>,
        stdio: Option<Joint>,
    ) -> Result<(Leader, Token), Failure> {
        let running = {
            let state = self.state.borrow();
            state.execs.len() - state.ended.len()
        };
        if running >= MAX_RUNNING {
            return Err(Failure::new(FailureKind::Exhausted, format!("{MAX_RUNNING} commands run already")));
        }
        let token = Token::random().map_err(|_| Failure::new(FailureKind::System, "cannot get random numbers"))?;
        let deadline = deadline(command);
        let Child { argv, group, ended: mut leader_ended, stdin, stdout, stderr } = spawner.spawn(command, wiring)?;
        let (ended, watched) = watch::channel(None);
        let exec = {
            let mut state = self.state.borrow_mut();
            let exec = state.next;
            state.next += 1;
            let entry = Exec {
                argv: summary(&argv),
                token: token.clone(),
                group: Rc::clone(&group),
                ended: watched.clone(),
                channels: Channels { stdin, stdout, stderr },
                stdio,
                attachment: Rc::new(Attachment::new(Rc::clone(&group), watched.clone())),
            };
            state.execs.insert(exec, entry);
            exec
        };

        let leader = Leader::new(exec, Rc::clone(&group), watched);
        let table = self.clone();
        spawn_local(async move {
            let mut timed_out = false;
            let status = loop {
                tokio::select! {
                    status = &mut leader_ended => break status.unwrap_or(ExitStatus::Unknown),
                    () = at(deadline), if !timed_out => {
                        timed_out = true;
                        group.kill();
                    }
                }
            };
            group.leader_ended();
            ended.send_replace(Some(Ended { status, timed_out }));
            table.remember(exec);
        });
        Ok((leader, token))
    }

    fn remember(&self, exec: u64) {
        let mut state = self.state.borrow_mut();
        state.ended.push_back(exec);
        if state.ended.len() > MAX_ENDED
            && let Some(oldest) = state.ended.pop_front()
        {
            state.execs.remove(&oldest);
        }
    }

    fn give_up_streams(&self, exec: u64) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.execs.get_mut(&exec) else { return };
        entry.stdio = None;
        let unclaimed = Channel::ALL.map(|channel| (channel, entry.channels.claim(channel).is_some()));
        if unclaimed.iter().all(|(_, unclaimed)| *unclaimed) {
            entry.group.kill();
        }
        for (channel, _) in unclaimed.into_iter().filter(|(_, unclaimed)| *unclaimed) {
            entry.attachment.closed(channel, Side::Host);
        }
    }

    /// The command's end of the stream, for whoever knows its secret.
    pub(crate) fn claim(&self, header: &StreamHeader, streams: &Streams) -> Result<Claimed, Failure> {
        let mut state = self.state.borrow_mut();
        let entry = state.execs.get_mut(&header.exec).filter(|entry| entry.token == header.token);
        let unknown = || Failure::new(FailureKind::Unauthorized, "there is no such stream");
        let entry = entry.ok_or_else(unknown)?;
        let end = entry.channels.claim(header.channel);
        let end =
            end.ok_or_else(|| Failure::new(FailureKind::Invalid, "that stream was opened before, or too late"))?;
        let open = entry.stdio.as_mut().ok_or_else(unknown)?.enter(streams);
        let open = open.inspect_err(|_| entry.attachment.closed(header.channel, Side::Host))?;
        if entry.channels.are_claimed() {
            entry.stdio = None;
        }
        Ok(Claimed { end, attachment: Rc::clone(&entry.attachment), open })
    }

    /// Waits for a command's end.
    pub(crate) async fn wait(&self, exec: u64) -> Result<Ended, Failure> {
        let mut ended = self.state.borrow().execs.get(&exec).ok_or_else(|| unknown(exec))?.ended.clone();
        let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
        ended.ok_or_else(|| unknown(exec))
    }

    /// Sends a signal to a command, or kills it with everything that it started.
    pub(crate) fn signal(&self, exec: u64, signal: i32) -> Result<(), Failure> {
        let state = self.state.borrow();
        let entry = state.execs.get(&exec).ok_or_else(|| unknown(exec))?;
        let number = Some(signal).filter(|signal| (1..=64).contains(signal));
        let number = number
            .ok_or_else(|| Failure::new(FailureKind::Invalid, format!("there is no signal {signal}: use 1 to 64")))?;
        if number == libc::SIGKILL {
            entry.group.kill();
            return Ok(());
        }
        // SAFETY: the number is one of the kernel's signals; nothing is done with it but to send it.
        let number = unsafe { Signal::from_raw_unchecked(number) };
        match entry.group.signal(number) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Failure::new(FailureKind::System, format!("cannot send the signal: {error}"))),
            None => Err(Failure::new(FailureKind::NotFound, format!("command {exec} has ended"))),
        }
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<ExecInfo> {
        let describe = |(exec, entry): (&u64, &Exec)| ExecInfo {
            exec: *exec,
            state: entry.ended.borrow().map_or(ExecState::Running, ExecState::Ended),
            argv: entry.argv.clone(),
            terminal: None,
        };
        self.state.borrow().execs.iter().map(describe).collect()
    }

    /// Kills all of them.
    pub(crate) fn kill_all(&self) {
        for entry in self.state.borrow().execs.values() {
            entry.group.kill();
        }
    }
}

fn unknown(exec: u64) -> Failure {
    Failure::new(
        FailureKind::NotFound,
        format!("command {exec} is unknown: it ended long ago, or the agent has restarted"),
    )
}

/// The beginning of the arguments; where something is left out, the last one ends so.
fn summary(argv: &[String]) -> Vec<Text> {
    const CUT: &str = "…";
    let mut left = ExecInfo::MAX_ARGV_BYTES - CUT.len();
    let mut shown: Vec<String> = Vec::new();
    for argument in argv {
        if left == 0 {
            if let Some(last) = shown.last_mut() {
                last.push_str(CUT);
            }
            break;
        }
        let end = argument.floor_char_boundary(left);
        let cut = if end < argument.len() { CUT } else { "" };
        shown.push(format!("{}{cut}", argument.get(..end).unwrap_or_default()));
        if !cut.is_empty() {
            break;
        }
        // Each argument costs something, so that many empty ones are bounded, too.
        left = left.saturating_sub(end + 1);
    }
    shown.into_iter().map(Text::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(argv: &[&str]) -> String {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        summary(&argv).iter().map(Text::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn arguments_that_are_cut_say_so() {
        assert_eq!(shown(&["sh", "-c", "true"]), "sh -c true");
        let (fits, long) = ("x".repeat(253), "x".repeat(254));
        assert_eq!(shown(&[&fits]), fits);
        assert_eq!(shown(&[&long]), format!("{fits}…"));
        assert_eq!(shown(&[&fits, "more"]), format!("{fits}…"));
        assert_eq!(shown(&["a", &"ä".repeat(200)]), format!("a {}…", "ä".repeat(125)));
        assert!(summary(&vec![String::new(); 100_000]).len() < 256);
    }
}
