//! What ties a command to whoever has its streams.

use std::{cell::RefCell, rc::Rc, time::Duration};

use nexus_protocol::{Channel, Ended};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::group::Group;

/// How long a command that nobody reads from may leave input lying before that is taken for input that nobody will add
/// to. A host's proxy tells of the end of a stream only behind everything that was sent before.
const STALLED: Duration = Duration::from_secs(10);

/// A command's streams, as far as they decide on its life: it is killed, with all that it started, when the host has
/// closed all three while it runs. What the command itself closes says nothing of the host; of its two
/// outputs the agent keeps the one that is closed last, so that there is always a stream that tells.
#[derive(Debug)]
pub(crate) struct Attachment {
    group: Rc<Group>,
    ended: watch::Receiver<Option<Ended>>,
    ends: RefCell<Ends>,
    unread: Notify,
}

/// Which side has ended which stream.
#[derive(Debug, Default)]
struct Ends {
    stdin: Option<Side>,
    stdout: Option<Side>,
    stderr: Option<Side>,
}

/// Who has ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Guest,
    Host,
}

impl Ends {
    fn of(&mut self, channel: Channel) -> &mut Option<Side> {
        match channel {
            Channel::Stdin => &mut self.stdin,
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
        }
    }

    /// Whether nobody will ever read what the command writes.
    fn unread(&self) -> bool {
        let outputs = [self.stdout, self.stderr];
        outputs.iter().all(Option::is_some) && outputs.contains(&Some(Side::Host))
    }
}

impl Attachment {
    pub(super) fn new(group: Rc<Group>, ended: watch::Receiver<Option<Ended>>) -> Self {
        Self { group, ended, ends: RefCell::default(), unread: Notify::new() }
    }

    /// Takes note of a stream's end, and kills the command if that leaves nobody who has any.
    pub(crate) fn closed(&self, channel: Channel, side: Side) {
        let mut ends = self.ends.borrow_mut();
        ends.of(channel).get_or_insert(side);
        if ends.unread() {
            self.unread.notify_waiters();
            if ends.stdin.is_some() && (self.is_running() || self.has_ended_unread()) {
                self.group.kill();
            }
        }
    }

    /// Kills the command, if it runs, before its streams are closed: nobody has them any more.
    pub(crate) fn abandon(&self) {
        if self.is_running() {
            self.group.kill();
        }
    }

    /// Whether this output, which the command has closed, is to be kept open towards the host until the command's end.
    pub(crate) fn keeps(&self, channel: Channel) -> bool {
        let ends = self.ends.borrow();
        let other = if channel == Channel::Stdout { ends.stderr } else { ends.stdout };
        self.is_running() && other.is_some()
    }

    fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Whether it has ended because nobody reads what it writes, between the ends of two streams. That is not by itself.
    fn has_ended_unread(&self) -> bool {
        self.ended.borrow().is_some_and(|ended| ended.status.shell_code() == 128 + libc::SIGPIPE)
    }

    /// Waits until the command has ended.
    pub(crate) async fn ended(&self) {
        // An error is the end of the task that would tell: there is nothing to wait for then either.
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }

    /// Waits until input that the command does not take is taken by nobody any more.
    pub(crate) async fn stalled(&self) {
        let unread = self.unread.notified();
        if !self.ends.borrow().unread() {
            unread.await;
        }
        sleep(STALLED).await;
    }
}
