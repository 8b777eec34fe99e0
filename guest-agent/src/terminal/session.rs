//! One terminal and the command on it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use nexus_protocol::{Failure, FailureKind, TerminalInfo, TerminalSize, Text, Token};
use tokio::{
    sync::Notify,
    task::{spawn_local, yield_now},
    time::{sleep, timeout},
};

use super::{history::Allowance, pty::Pty, screen::Screen, viewer::Viewer};
use crate::{
    exec::{Leader, system},
    streams::Announced,
};

/// As many may look at a terminal at a time.
const MAX_VIEWERS: usize = 16;

/// How long the host has to open a viewer's stream.
const TICKET_DEADLINE: Duration = Duration::from_secs(30);

/// How long the command on a terminal that goes on without viewers is held up by viewers that are all too slow.
const PATIENCE: Duration = Duration::from_secs(2);

const CHUNK_BYTES: usize = 16 * 1024;

/// As much output that was not read when the command ended is shown still: more than the kernel keeps of a terminal's.
const MAX_LAST_BYTES: usize = 1024 * 1024;

/// A terminal, from the start of its command to its end.
pub(super) struct Session {
    /// Without one it ends with its last viewer.
    name: Option<String>,
    leader: Leader,
    pty: Pty,
    size: Cell<TerminalSize>,
    screen: RefCell<Screen>,
    tickets: RefCell<Vec<Ticket>>,
    viewers: RefCell<BTreeMap<u64, Rc<Viewer>>>,
    next: Cell<u64>,
    /// Whether anybody has ever looked at it.
    seen: Cell<bool>,
    over: Cell<bool>,
    room: Notify,
}

/// Lets the host open one stream.
struct Ticket {
    number: u64,
    token: Token,
    read_only: bool,
    stream: Announced,
}

/// A viewer's place; given up when dropped.
pub(super) struct Seat {
    pub(super) session: Rc<Session>,
    pub(super) viewer: Rc<Viewer>,
    pub(super) read_only: bool,
    pub(super) stream: Announced,
    number: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("name", &self.name).field("exec", &self.leader.exec()).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(
        name: Option<String>,
        size: TerminalSize,
        pty: Pty,
        leader: Leader,
        allowance: &Rc<Allowance>,
    ) -> Rc<Self> {
        Rc::new(Self {
            name,
            leader,
            pty,
            size: Cell::new(size),
            screen: RefCell::new(Screen::new(size, allowance)),
            tickets: RefCell::default(),
            viewers: RefCell::default(),
            next: Cell::new(0),
            seen: Cell::new(false),
            over: Cell::new(false),
            room: Notify::new(),
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) const fn exec(&self) -> u64 {
        self.leader.exec()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    pub(super) fn info(&self) -> TerminalInfo {
        let viewers = u32::try_from(self.viewers.borrow().len()).unwrap_or(u32::MAX);
        TerminalInfo { name: self.name().map(Text::from), size: self.size.get(), viewers }
    }

    /// Shows what the command writes, until that ends.
    pub(super) async fn carry(&self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = async |chunk: &mut [u8]| {
            self.wait_for_room().await;
            self.pty.read(chunk).await
        };
        loop {
            let count = tokio::select! {
                () = self.leader.ended() => break,
                count = read(&mut chunk) => count,
            };
            match count {
                Ok(count @ 1..) => self.show(chunk.get(..count).unwrap_or_default()),
                Ok(0) | Err(_) => self.leader.ended().await,
            }
            // A terminal that is always ready would let nothing else happen.
            yield_now().await;
        }
        let mut shown = 0;
        while shown < MAX_LAST_BYTES {
            self.wait_for_room().await;
            let Ok(count @ 1..) = self.pty.read_now(&mut chunk) else { break };
            self.show(chunk.get(..count).unwrap_or_default());
            shown += count;
            yield_now().await;
        }
    }

    /// Nothing more will be shown.
    pub(super) fn end(&self) {
        self.over.set(true);
        self.viewers.borrow().values().for_each(|viewer| viewer.wake());
    }

    fn show(&self, output: &[u8]) {
        let mut screen = self.screen.borrow_mut();
        let was_alternate = screen.is_alternate();
        screen.show(output);
        let is_back = was_alternate && !screen.is_alternate();
        drop(screen);
        let output = Bytes::copy_from_slice(output);
        for viewer in self.viewers.borrow().values() {
            viewer.push(&output);
            if is_back && viewer.sees_half.replace(false) {
                viewer.miss();
            }
        }
    }

    /// Waits while the first viewer is still to come, and while there are viewers and none of them keeps up: what a command
    /// writes faster than it can be shown holds it up, as on any terminal. Should that last, it goes on all the same, unless
    /// it is there for its viewers alone.
    async fn wait_for_room(&self) {
        while !self.is_room() {
            let room = self.room.notified();
            if self.name.is_none() || !self.seen.get() {
                room.await;
            } else if timeout(PATIENCE, room).await.is_err() {
                self.viewers.borrow().values().for_each(|viewer| viewer.miss());
            }
        }
    }

    fn is_room(&self) -> bool {
        if !self.seen.get() {
            return self.tickets.borrow().is_empty();
        }
        let viewers = self.viewers.borrow();
        viewers.values().any(|viewer| viewer.has_room()) || !viewers.values().any(|viewer| viewer.is_followed())
    }

    /// Takes note that a viewer has come, has shown something, or has left.
    pub(super) fn has_room(&self) {
        self.room.notify_one();
    }

    /// Everything that is to be seen.
    pub(super) fn repaint(&self, viewer: &Viewer) -> Bytes {
        let screen = self.screen.borrow();
        viewer.sees_half.set(screen.is_alternate());
        screen.repaint().into()
    }

    /// Types something; how much of it there was room for.
    pub(super) async fn write(&self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pty.write(bytes).await
    }

    pub(super) fn resize(&self, size: TerminalSize) -> Result<(), Failure> {
        if size != self.size.get() {
            self.pty.resize(size).map_err(|error| system("resize the terminal", &error))?;
            self.size.set(size);
            self.screen.borrow_mut().resize(size);
        }
        Ok(())
    }

    /// Keeps no more of what has scrolled away than is allowed by now.
    pub(super) fn trim(&self) {
        self.screen.borrow_mut().trim();
    }

    /// Lets one more viewer come, on that stream.
    pub(super) fn admit(self: &Rc<Self>, read_only: bool, stream: Announced) -> Result<Token, Failure> {
        if self.viewers.borrow().len() + self.tickets.borrow().len() >= MAX_VIEWERS {
            let message = format!("{MAX_VIEWERS} look at this terminal already");
            return Err(Failure::new(FailureKind::Exhausted, message));
        }
        let token = Token::random().map_err(|_| Failure::new(FailureKind::System, "cannot get random numbers"))?;
        let number = self.next.get();
        self.next.set(number + 1);
        self.tickets.borrow_mut().push(Ticket { number, token: token.clone(), read_only, stream });
        let session = Rc::downgrade(self);
        spawn_local(async move {
            sleep(TICKET_DEADLINE).await;
            if let Some(session) = session.upgrade() {
                session.tickets.borrow_mut().retain(|ticket| ticket.number != number);
                session.has_room();
                session.end_if_alone();
            }
        });
        Ok(token)
    }

    /// The place of the viewer with this ticket.
    pub(super) fn seat(self: &Rc<Self>, token: &Token) -> Option<Seat> {
        let mut tickets = self.tickets.borrow_mut();
        let place = tickets.iter().position(|ticket| ticket.token == *token)?;
        let Ticket { number, read_only, stream, .. } = tickets.swap_remove(place);
        drop(tickets);
        let viewer = Rc::new(Viewer::default());
        let screen = self.screen.borrow();
        viewer.sees_half.set(screen.is_alternate());
        viewer.push(&screen.introduce().into());
        self.seen.set(true);
        self.has_room();
        self.viewers.borrow_mut().insert(number, Rc::clone(&viewer));
        Some(Seat { session: Rc::clone(self), viewer, read_only, stream, number })
    }

    /// Kills the command if nobody looks at it or is about to, and it is to end then; also if nobody ever has.
    fn end_if_alone(&self) {
        let is_alone = self.viewers.borrow().is_empty() && self.tickets.borrow().is_empty();
        if is_alone && (self.name.is_none() || !self.seen.get()) {
            self.leader.kill();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.session.viewers.borrow_mut().remove(&self.number);
        self.session.has_room();
        self.session.end_if_alone();
    }
}
