//! The terminals of a guest.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use nexus_protocol::{ExecInfo, Failure, FailureKind, OpenTerminal, OpenedTerminal, TerminalSize, ViewerHeader};
use tokio::task::spawn_local;

use super::{
    pty::Pty,
    session::{Seat, Session},
};
use crate::exec::{ExecTable, Spawner, system};

/// As many are open at a time.
const MAX_TERMINALS: usize = 100;

/// The terminals whose commands run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terminals {
    /// By the numbers of their commands.
    sessions: Rc<RefCell<BTreeMap<u64, Rc<Session>>>>,
}

impl Terminals {
    /// Finds the terminal of that name, or makes one, and lets a viewer come.
    pub(crate) fn open(
        &self,
        spawner: &Spawner,
        execs: &ExecTable,
        open: OpenTerminal,
    ) -> Result<OpenedTerminal, Failure> {
        open.validate().map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?;
        let (read_only, size) = (open.read_only, open.size);
        let found = open.name.as_deref().and_then(|name| self.find(name));
        let created = found.is_none();
        let session = match found {
            None => self.start(spawner, execs, open)?,
            Some(session) if open.command.argv.is_empty() => session,
            Some(session) => {
                let name = session.name().unwrap_or_default();
                let message = format!("there is a terminal `{name}` already: no command can be run on it");
                return Err(Failure::new(FailureKind::Invalid, message));
            }
        };
        // Who can't come any more changes nothing.
        let token = session.admit(read_only)?;
        if let Some(size) = size {
            session.resize(size)?;
        }
        Ok(OpenedTerminal { exec: session.exec(), token, created })
    }

    fn find(&self, name: &str) -> Option<Rc<Session>> {
        let is_it = |session: &&Rc<Session>| !session.is_over() && session.name() == Some(name);
        self.sessions.borrow().values().find(is_it).cloned()
    }

    fn start(&self, spawner: &Spawner, execs: &ExecTable, open: OpenTerminal) -> Result<Rc<Session>, Failure> {
        if self.sessions.borrow().len() >= MAX_TERMINALS {
            let message = format!("{MAX_TERMINALS} terminals are open already");
            return Err(Failure::new(FailureKind::Exhausted, message));
        }
        let size = open.size.unwrap_or_default();
        let pty = Pty::open(size).map_err(|error| system("make a terminal", &error))?;
        let leader = execs.start_on(spawner, &open.command, pty.slave())?;
        let session = Session::new(open.name, size, pty, leader);
        self.sessions.borrow_mut().insert(session.exec(), Rc::clone(&session));
        let (table, carried) = (self.clone(), Rc::clone(&session));
        spawn_local(async move {
            carried.carry().await;
            table.sessions.borrow_mut().remove(&carried.exec());
        });
        Ok(session)
    }

    /// The place of the viewer that knows its secret.
    pub(super) fn claim(&self, header: &ViewerHeader) -> Result<Seat, Failure> {
        let session = self.sessions.borrow().get(&header.terminal).cloned();
        let seat = session.and_then(|session| session.seat(&header.token));
        seat.ok_or_else(|| {
            Failure::new(
                FailureKind::Unauthorized,
                "there is no such terminal, or its stream was opened before or too late",
            )
        })
    }

    /// Gives a terminal another size.
    pub(crate) fn resize(&self, exec: u64, size: TerminalSize) -> Result<(), Failure> {
        let session = self.sessions.borrow().get(&exec).cloned();
        let unknown = || Failure::new(FailureKind::NotFound, format!("command {exec} runs on no terminal"));
        session.ok_or_else(unknown)?.resize(size)
    }

    /// Tells of which commands in the list run on a terminal.
    pub(crate) fn describe(&self, execs: &mut [ExecInfo]) {
        let sessions = self.sessions.borrow();
        for exec in execs {
            exec.terminal = sessions.get(&exec.exec).map(|session| session.info());
        }
    }
}
