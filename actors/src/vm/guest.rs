//! What can be asked of guests.

use std::{os::fd::OwnedFd, sync::atomic::Ordering, time::Duration};

use nexus_host::{
    agent::{AgentClient, AgentError, RunOutcome},
    process::is_ending,
};
use nexus_model::{ConnectionKind, ErrorKind, Name, vm::VmState};
use nexus_protocol::{Command, Label, STREAM_PORT, TOOLS_PORT, Text};
use tracing::info;

use super::connection::AGENT;
use crate::{Engine, Error, GuestCommand, GuestOutcome, GuestStreams, Origin, Place};

/// How long a guest's connection may be away before it is given up.
const AWAY: Duration = Duration::from_secs(20);
/// How long after a guest's connection was lost it is asked again.
const PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// Runs a command in a guest and waits for its end; its output is capped at 256 KiB.
    ///
    /// # Errors
    /// `NotFound` for a VM or a program; `PermissionDenied` when the program can't be executed; `InvalidArgs` for a command that
    /// no guest can run, and for a user or a folder that this one has not; `GuestUnavailable`, `GuestFailed`, `Busy`;
    /// `Timeout` when it was killed because its time was up.
    pub async fn guest_run(&self, origin: &Origin, vm: &Name, command: GuestCommand) -> Result<GuestOutcome, Error> {
        let (agent, command) = self.guest_command(origin, vm, command)?;
        let outcome = agent.run(&command).await?;
        if outcome.timed_out {
            return Err(Error::new(ErrorKind::Timeout, too_long(&outcome)));
        }
        Ok(GuestOutcome {
            status: outcome.status,
            stdout: outcome.stdout,
            stderr: outcome.stderr,
            truncated: outcome.truncated,
        })
    }

    /// Starts a command in a guest and gives its streams.
    ///
    /// # Errors
    /// As [`guest_run`](Self::guest_run)'s; `Timeout` when the agent does not answer.
    pub async fn guest_exec(&self, origin: &Origin, vm: &Name, command: GuestCommand) -> Result<GuestStreams, Error> {
        let (agent, command) = self.guest_command(origin, vm, command)?;
        let owner = Label::from(origin.sender.as_str());
        let streams = agent.exec(&command, Some(owner)).await?;
        let place = (ConnectionKind::Stdio, STREAM_PORT);
        self.handed_over(&self.vm(vm)?, &agent, place, &origin.sender, streams.number).await;
        Ok(GuestStreams { exec: streams.id, stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr })
    }

    /// Starts a command in a guest that has no streams and is nobody's. Its number.
    ///
    /// # Errors
    /// As [`guest_exec`](Self::guest_exec)'s.
    pub async fn guest_detach(&self, origin: &Origin, vm: &Name, command: GuestCommand) -> Result<u64, Error> {
        let (agent, command) = self.guest_command(origin, vm, command)?;
        Ok(agent.detach(&command).await?)
    }

    /// Waits for the end of a command, however long that takes. When the connection to the agent is lost meanwhile, it
    /// asks again on the next one.
    ///
    /// # Errors
    /// `Timeout` when it was killed because its time was up; `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_wait_exec(&self, vm: &Name, exec: u64) -> Result<nexus_model::ExitStatus, Error> {
        let context = self.vm(vm)?;
        let mut agents = context.agent.subscribe();
        loop {
            match self.agent(vm)?.wait_exec(exec).await {
                Err(error @ AgentError::Gone(_)) => {
                    // The one that is gone may be offered for a moment yet.
                    tokio::time::sleep(PAUSE).await;
                    let mut picture = self.board.vms().watch(vm).ok_or_else(|| Error::not_found("VM", vm.as_str()))?;
                    tokio::select! {
                        next = tokio::time::timeout(AWAY, agents.wait_for(Option::is_some)) => {
                            if !matches!(next, Ok(Ok(_))) {
                                return Err(error.into());
                            }
                        }
                        // With its VM the command has ended, however that was.
                        ended = picture.wait_for(|vm| !vm.lifecycle.state().has_vmm()) => {
                            return Err(match ended {
                                Ok(_) => unavailable(self, vm),
                                Err(_) => Error::not_found("VM", vm.as_str()),
                            });
                        }
                    }
                }
                other => return other.map_err(Error::from),
            }
        }
    }

    /// Sends a signal, by its Linux number, to all processes of a command.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_signal_exec(&self, vm: &Name, exec: u64, signal: i32) -> Result<(), Error> {
        Ok(self.agent(vm)?.signal_exec(exec, signal).await?)
    }

    /// The commands that run: number and arguments.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_list_execs(&self, vm: &Name) -> Result<Vec<(u64, Vec<String>)>, Error> {
        let execs = self.agent(vm)?.list_execs().await?;
        let running = execs.into_iter().filter(|exec| exec.state == nexus_protocol::ExecState::Running);
        let words = |argv: Vec<Text>| argv.iter().map(|word| word.as_str().to_owned()).collect();
        Ok(running.map(|exec| (exec.exec, words(exec.argv))).collect())
    }

    /// Opens a session of the Model Context Protocol with a guest's agent and gives its stream, on which every client can
    /// speak it: a JSON-RPC message a line.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`; `ResourcesExhausted` when there are too many sessions;
    /// `NotImplemented` when the agent is older than that; `Timeout` when it does not answer.
    pub async fn guest_open_tools(&self, origin: &Origin, vm: &Name) -> Result<OwnedFd, Error> {
        let agent = self.agent(vm)?;
        let env = self.vm(vm)?.env.borrow().clone();
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "opens the tools of VM {vm}");
        let opened = agent.open_tools(env, Some(Label::from(origin.sender.as_str()))).await?;
        let context = self.vm(vm)?;
        let place = (ConnectionKind::Tools, TOOLS_PORT);
        self.handed_over(&context, &agent, place, &origin.sender, opened.number).await;
        Ok(opened.stream)
    }

    pub(super) fn agent(&self, vm: &Name) -> Result<AgentClient, Error> {
        // What is sent to a guest that stands still is answered by nobody, and may block its vsock device for good, unless
        // that is a mended one.
        if self.board.vms().get(vm).is_some_and(|picture| picture.lifecycle.state() == VmState::Paused) {
            return Err(unavailable(self, vm));
        }
        // What is sent to one that was killed is lost, and then nobody knows whether it was done.
        if self.board.vms().get(vm).is_some_and(|picture| picture.leader != 0 && is_ending(picture.leader)) {
            return Err(unreachable(vm, "its VMM has just ended"));
        }
        let context = self.vm(vm)?;
        if context.closed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::GuestUnavailable, format!("VM `{vm}` is being paused: resume it first")));
        }
        context.agent.borrow().clone().ok_or_else(|| unavailable(self, vm))
    }

    pub(super) fn guest_command(
        &self,
        origin: &Origin,
        vm: &Name,
        command: GuestCommand,
    ) -> Result<(AgentClient, Command), Error> {
        let agent = self.agent(vm)?;
        let mut env = self.vm(vm)?.env.borrow().clone();
        env.extend(command.env);
        let program = command.argv.first().map_or("its login shell", String::as_str);
        info!(NEXUS_VM = %vm, NEXUS_REQUEST = %origin.request, DBUS_SENDER = origin.sender, "runs `{program}` in VM {vm}");
        let timeout = command.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let command = Command {
            argv: command.argv,
            env,
            cwd: command.working_directory,
            user: command.user,
            timeout_ms: timeout,
        };
        Ok((agent, command))
    }
}

/// What to say of a command that was killed, and of what it wrote.
fn too_long(outcome: &RunOutcome) -> String {
    let more = if outcome.truncated { "more than " } else { "" };
    let (out, err) = (outcome.stdout.len(), outcome.stderr.len());
    let written = format!("{more}{out} bytes of output and {err} of errors");
    let dropped = format!("the command was killed: its time was up; it had written {written}, which only Exec gives");
    let errors = String::from_utf8_lossy(&outcome.stderr);
    match errors.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) if !outcome.truncated => format!("{dropped}; the last line of its errors is: {}", Text::from(line)),
        _ => dropped,
    }
}

fn unavailable(engine: &Engine, vm: &Name) -> Error {
    let state = engine.board.vms().get(vm).map(|picture| picture.lifecycle.state());
    let connection = engine.board.connections().get(&(vm.clone(), AGENT));
    let why = connection.and_then(|connection| connection.failure.clone()).filter(|_| state == Some(VmState::Running));
    let machine = engine.board.actors().get(&Place::Machine(vm.clone()).to_string());
    let reason = match (state, why) {
        (_, Some(why)) => format!("{why}; see `nexusctl events --vm {vm}`"),
        (Some(VmState::Running), None) => {
            "its agent has not answered yet, or is not in its image: see `nexusctl vm logs`".to_owned()
        }
        (Some(state @ VmState::Paused), _) => format!("the VM is {state}; resume it first"),
        (Some(state @ VmState::Starting), _) => format!("the VM is {state}; wait until it is ready"),
        (Some(state), _) if machine.is_some_and(|machine| !machine.next_restart_at.is_never()) => {
            format!("the VM is {state}; it is started again by itself")
        }
        (Some(state), _) => format!("the VM is {state}; start it first"),
        (None, _) => "the VM is gone".to_owned(),
    };
    unreachable(vm, &reason)
}

fn unreachable(vm: &Name, reason: &str) -> Error {
    Error::new(ErrorKind::GuestUnavailable, format!("the guest of VM `{vm}` can't be reached: {reason}"))
}
