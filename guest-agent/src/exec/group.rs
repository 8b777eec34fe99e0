//! Everything that a command started, to be signalled or killed as one.

use std::{
    cell::{Cell, RefCell},
    mem,
    rc::Rc,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{cgroup::Cgroup, process_table::kill_marked};
use crate::log::say;

/// The processes of one command: its leader, its session and process group, and what has left those since.
#[derive(Debug)]
pub(super) struct Group {
    hold: RefCell<Hold>,
    /// The leader's pid, which names its session and its process group, until the leader was reaped: the number may
    /// belong to somebody else from then on.
    leader: Cell<Option<Pid>>,
    leftovers: Rc<Leftovers>,
}

/// By what the processes of a command are found again.
#[derive(Debug)]
pub(super) enum Hold {
    /// They are in this control group.
    Cgroup(Cgroup),
    /// They carry this mark in their environment.
    Mark(String),
    /// There is none left.
    Nothing,
}

/// Control groups that could not be removed yet because something that the command started goes on.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    groups: RefCell<Vec<Cgroup>>,
}

impl Leftovers {
    fn sweep(&self) {
        self.groups.borrow_mut().retain(|group| !group.remove());
    }
}

impl Group {
    pub(super) fn new(hold: Hold, leftovers: Rc<Leftovers>) -> Self {
        Self { hold: RefCell::new(hold), leader: Cell::new(None), leftovers }
    }

    pub(super) fn set_leader(&self, leader: Pid) {
        self.leader.set(Some(leader));
    }

    /// Takes note that the leader has ended.
    pub(super) fn leader_ended(&self) {
        self.leader.set(None);
        let mut hold = self.hold.borrow_mut();
        if matches!(&*hold, Hold::Cgroup(cgroup) if cgroup.remove()) {
            *hold = Hold::Nothing;
        }
    }

    /// Sends a signal to the process group; `None` when its leader has ended.
    pub(super) fn signal(&self, signal: Signal) -> Option<rustix::io::Result<()>> {
        self.leader.get().map(|leader| kill_process_group(leader, signal))
    }

    /// Kills all of it.
    pub(super) fn kill(&self) {
        match &*self.hold.borrow() {
            Hold::Cgroup(cgroup) => {
                if let Err(error) = cgroup.kill() {
                    say!("cannot kill a command's control group: {error}");
                }
                // What has moved to another group, as root may, is in the process group still, unless it left that too.
                if let Some(leader) = self.leader.get() {
                    // It may have ended since.
                    let _ = kill_process_group(leader, Signal::KILL);
                }
            }
            Hold::Mark(mark) => kill_marked(mark, self.leader.get().map(|leader| leader.as_raw_nonzero().get())),
            Hold::Nothing => {}
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.leftovers.sweep();
        if let Hold::Cgroup(cgroup) = mem::replace(&mut *self.hold.borrow_mut(), Hold::Nothing)
            && !cgroup.remove()
        {
            self.leftovers.groups.borrow_mut().push(cgroup);
        }
    }
}
