//! Terminals in guests.

use nexus_host::agent::AgentError;
use nexus_model::{ConnectionKind, ErrorKind, Name};
use nexus_protocol::{ExecState, FailureKind, Label, OpenTerminal, TerminalSize};

use crate::{Engine, Error, GuestShell, GuestTerminal, GuestTerminalInfo, Origin};

/// As many terminals are listed; an agent has no more.
const MAX_LISTED: usize = 100;

impl Engine {
    /// Runs a command on a terminal in a guest, or finds the terminal of that name.
    ///
    /// # Errors
    /// As [`guest_exec`](Self::guest_exec)'s; `ResourcesExhausted` when there are too many terminals or viewers already;
    /// `NotImplemented` when the agent has no terminals.
    pub async fn guest_open_shell(
        &self,
        origin: &Origin,
        vm: &Name,
        shell: GuestShell,
    ) -> Result<GuestTerminal, Error> {
        let (agent, command) = self.guest_command(origin, vm, shell.command)?;
        let size = shell.size.map(|(columns, rows)| TerminalSize::new(columns, rows));
        let owner = Label::from(origin.sender.as_str());
        let open = OpenTerminal { command, name: shell.name, size, read_only: shell.read_only, label: Some(owner) };
        let opened = agent.open_terminal(open).await.map_err(|error| explain(vm, error))?;
        let place = (ConnectionKind::Terminal, opened.port);
        self.handed_over(&self.vm(vm)?, &agent, place, &origin.sender, opened.number).await;
        Ok(GuestTerminal { exec: opened.id, stream: opened.stream })
    }

    /// Gives the terminal on which a command runs another size, in columns and rows.
    ///
    /// # Errors
    /// `NotFound` also when it runs on none; `NotImplemented`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_resize_exec(&self, vm: &Name, exec: u64, columns: u32, rows: u32) -> Result<(), Error> {
        let resized = self.agent(vm)?.resize_exec(exec, TerminalSize::new(columns, rows)).await;
        resized.map_err(|error| explain(vm, error))
    }

    /// The terminals whose commands run.
    ///
    /// # Errors
    /// `NotFound`, `GuestUnavailable`, `GuestFailed`.
    pub async fn guest_list_shells(&self, vm: &Name) -> Result<Vec<GuestTerminalInfo>, Error> {
        let execs = self.agent(vm)?.list_execs().await?;
        let running = execs.into_iter().filter(|exec| exec.state == ExecState::Running);
        let terminals = running.filter_map(|exec| exec.terminal.map(|terminal| (exec.exec, terminal)));
        let describe = |(exec, terminal): (u64, nexus_protocol::TerminalInfo)| GuestTerminalInfo {
            exec,
            // What could not be its name is none.
            name: terminal.name.map(String::from).filter(|name| OpenTerminal::is_name(name)).unwrap_or_default(),
            columns: terminal.size.columns().into(),
            rows: terminal.size.rows().into(),
            viewers: terminal.viewers,
        };
        Ok(terminals.take(MAX_LISTED).map(describe).collect())
    }
}

/// Says what to do about a terminal that there is not.
fn explain(vm: &Name, error: AgentError) -> Error {
    let kind = match &error {
        AgentError::Failed(failure) => failure.kind,
        _ => return error.into(),
    };
    match kind {
        FailureKind::Exhausted => {
            let message = format!("nothing more can be opened in VM `{vm}`: end a command or leave a terminal first");
            Error::caused(ErrorKind::ResourcesExhausted, message, error)
        }
        _ => error.into(),
    }
}
