//! A command that runs on a terminal, as that sees it.

use std::rc::Rc;

use nexus_protocol::Ended;
use tokio::sync::watch;

use super::group::Group;

/// The first process of a command, and all that it started.
#[derive(Debug)]
pub(crate) struct Leader {
    exec: u64,
    group: Rc<Group>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Leader {
    pub(super) const fn new(exec: u64, group: Rc<Group>, ended: watch::Receiver<Option<Ended>>) -> Self {
        Self { exec, group, ended }
    }

    /// Names the command.
    pub(crate) const fn exec(&self) -> u64 {
        self.exec
    }

    /// Waits until the first process has ended.
    pub(crate) async fn ended(&self) {
        // An error is the end of the task that would tell: there is nothing to wait for then either.
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }

    /// Kills all of it, while the first process runs: what a command leaves behind when it ends by itself goes on.
    pub(crate) fn kill(&self) {
        if self.ended.borrow().is_none() {
            self.group.kill();
        }
    }
}
