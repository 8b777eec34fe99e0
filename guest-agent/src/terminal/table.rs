//! The terminals of a guest.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use nexus_protocol::{
    ExecInfo, Failure, FailureKind, Features, OpenTerminal, OpenedTerminal, StreamKind, TERMINAL_PORTS, TerminalSize,
    ViewerHeader,
};
use tokio::task::spawn_local;

use super::{
    history::Allowance,
    port::Port,
    pty::Pty,
    session::{Seat, Session},
};
use crate::{agent::Agent, exec::system};

/// The terminals whose commands run, as many as there are ports for them.
#[derive(Clone, Debug)]
pub(crate) struct Terminals {
    /// By their ports.
    sessions: Rc<RefCell<BTreeMap<u32, Rc<Session>>>>,
    /// Where the next terminal will be; hosts may be there before.
    next: Rc<RefCell<Option<Port>>>,
    is_vsock: bool,
    allowance: Rc<Allowance>,
}

/// A terminal's place in the table. It is free when this is dropped, however its task ends.
struct Entry {
    table: Terminals,
    number: u32,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let session = self.table.sessions.borrow_mut().remove(&self.number);
        if let Some(session) = session {
            session.end();
        }
        self.table.divide();
    }
}

impl Terminals {
    /// `is_vsock` says whether each listens on a port of its own.
    pub(crate) fn new(is_vsock: bool) -> Self {
        Self { sessions: Rc::default(), next: Rc::default(), is_vsock, allowance: Rc::new(Allowance::of_this_guest()) }
    }

    /// Whether viewers are awaited there.
    pub(crate) fn has_port(&self, port: u32) -> bool {
        self.sessions.borrow().contains_key(&port) || self.next_port() == Some(port)
    }

    /// Where the next terminal will be, unless there is no port left.
    pub(crate) fn next_port(&self) -> Option<u32> {
        self.next.borrow().as_ref().map(Port::number)
    }

    /// Listens where the next terminal will be, if hosts may be there before, a port is left and that has not happened yet.
    pub(crate) fn prepare(&self, agent: &Rc<Agent>) {
        let is_wanted = [Features::SPARES, Features::TERMINALS].iter().all(|word| agent.features.has(word));
        if is_wanted && self.next_port().is_none() {
            let port = self.free_port(agent).ok();
            self.next.replace(port);
        }
    }

    /// Finds the terminal of that name, or makes one, and lets a viewer come.
    pub(crate) fn open(&self, agent: &Rc<Agent>, open: OpenTerminal) -> Result<OpenedTerminal, Failure> {
        open.validate().map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?;
        let (read_only, size, label) = (open.read_only, open.size, open.label.clone());
        let found = open.name.as_deref().and_then(|name| self.find(name));
        let created = found.is_none();
        let (port, session) = match found {
            None => self.start(agent, open)?,
            Some(found) if open.command.argv.is_empty() => found,
            Some((_, session)) => {
                let name = session.name().unwrap_or_default();
                let message = format!("there is a terminal `{name}` already: no command can be run on it");
                return Err(Failure::new(FailureKind::Invalid, message));
            }
        };
        // Who can't come any more changes nothing.
        let stream = agent.streams.announce(StreamKind::Terminal, port, label);
        let number = stream.number;
        let token = session.admit(read_only, stream)?;
        if let Some(size) = size {
            session.resize(size)?;
        }
        Ok(OpenedTerminal {
            exec: session.exec(),
            port,
            token,
            created,
            stream: Some(number),
            next_terminal: self.next_port(),
        })
    }

    fn find(&self, name: &str) -> Option<(u32, Rc<Session>)> {
        let sessions = self.sessions.borrow();
        let mut open = sessions.iter().filter(|(_, session)| !session.is_over());
        open.find(|(_, session)| session.name() == Some(name)).map(|(port, session)| (*port, Rc::clone(session)))
    }

    /// Takes the first port that is free.
    fn free_port(&self, agent: &Rc<Agent>) -> Result<Port, Failure> {
        for number in TERMINAL_PORTS.filter(|number| !self.has_port(*number)) {
            match Port::open(number, self.is_vsock, agent) {
                // Another program of the guest has it.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                port => return port.map_err(|error| system("listen on the terminal's port", &error)),
            }
        }
        let message = format!("{} terminals are open already", self.sessions.borrow().len());
        Err(Failure::new(FailureKind::Exhausted, message))
    }

    fn start(&self, agent: &Rc<Agent>, open: OpenTerminal) -> Result<(u32, Rc<Session>), Failure> {
        let next = self.next.take();
        let port = next.map_or_else(|| self.free_port(agent), Ok)?;
        let size = open.size.unwrap_or_default();
        let begun = Pty::open(size).map_err(|error| system("make a terminal", &error)).and_then(|pty| {
            let leader = agent.execs.start_on(&agent.spawner, &open.command, pty.slave())?;
            Ok((pty, leader))
        });
        let (pty, leader) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                self.next.replace(Some(port));
                return Err(failure);
            }
        };
        let session = Session::new(open.name, size, pty, leader, &self.allowance);
        let number = port.number();
        self.sessions.borrow_mut().insert(number, Rc::clone(&session));
        self.divide();
        self.prepare(agent);
        let (entry, carried, agent) = (Entry { table: self.clone(), number }, Rc::clone(&session), Rc::clone(agent));
        spawn_local(async move {
            carried.carry().await;
            // Nobody listens any more before another terminal may take the port.
            port.close().await;
            let table = entry.table.clone();
            drop(entry);
            table.prepare(&agent);
        });
        Ok((number, session))
    }

    /// Gives all terminals their part of what may be kept.
    fn divide(&self) {
        let sessions = self.sessions.borrow();
        self.allowance.divide(sessions.len());
        sessions.values().for_each(|session| session.trim());
    }

    /// The place of the viewer on this port that knows its secret.
    pub(super) fn claim(&self, port: u32, header: &ViewerHeader) -> Result<Seat, Failure> {
        let session = self.sessions.borrow().get(&port).filter(|session| session.exec() == header.terminal).cloned();
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
        let session = self.sessions.borrow().values().find(|session| session.exec() == exec).cloned();
        let unknown = || Failure::new(FailureKind::NotFound, format!("command {exec} runs on no terminal"));
        session.ok_or_else(unknown)?.resize(size)
    }

    /// Tells of which commands in the list run on a terminal.
    pub(crate) fn describe(&self, execs: &mut [ExecInfo]) {
        let sessions = self.sessions.borrow();
        for exec in execs {
            exec.terminal = sessions.values().find(|session| session.exec() == exec.exec).map(|session| session.info());
        }
    }
}
