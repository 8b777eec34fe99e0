//! Commands that stand still.

use std::{cell::RefCell, rc::Rc, time::Duration};

use nexus_protocol::{Failure, FailureKind, MAX_FREEZE};
use tokio::{
    sync::watch,
    task::spawn_local,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::cgroup::Parent;
use crate::log::say;

/// How long the kernel has to bring everything to a stop: what is in an uninterruptible system call goes on.
const DEADLINE: Duration = Duration::from_secs(1);

/// Between two looks whether everything has come to a stop.
const PAUSE: Duration = Duration::from_millis(2);

/// Has everything in the control groups of commands stand still, and go on again: by itself at the latest, in case the
/// host is never heard of again.
#[derive(Debug)]
pub(crate) struct Freezer {
    groups: Option<Rc<Parent>>,
    frozen: watch::Sender<bool>,
    limit: RefCell<Option<AbortOnDropHandle<()>>>,
}

impl Freezer {
    pub(super) fn new(groups: Option<Rc<Parent>>) -> Rc<Self> {
        Rc::new(Self { groups, frozen: watch::Sender::new(false), limit: RefCell::default() })
    }

    /// Waits until commands go on. A command that is to start does: it would go on while all others stand still.
    pub(crate) async fn thawed(&self) {
        // The sender is here.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    /// Returns once everything stands still; or not everything does, and what does goes on only when it is told.
    pub(crate) async fn freeze(self: &Rc<Self>) -> Result<(), Failure> {
        let Some(groups) = &self.groups else {
            return Err(Failure::new(FailureKind::Refused, "the agent has no control groups to hold commands still"));
        };
        self.frozen.send_replace(true);
        let freezer = Rc::clone(self);
        let limit = spawn_local(async move {
            sleep(MAX_FREEZE).await;
            say!("the host is not heard of: commands go on");
            freezer.go_on();
        });
        *self.limit.borrow_mut() = Some(AbortOnDropHandle::new(limit));
        groups.set_frozen(true);
        let deadline = Instant::now() + DEADLINE;
        while !groups.stands_still() {
            if Instant::now() >= deadline {
                let message = format!("not all commands stand still within {} s", DEADLINE.as_secs());
                return Err(Failure::new(FailureKind::System, message));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Everything goes on.
    pub(crate) fn thaw(&self) {
        *self.limit.borrow_mut() = None;
        self.go_on();
    }

    fn go_on(&self) {
        if self.frozen.send_replace(false)
            && let Some(groups) = &self.groups
        {
            groups.set_frozen(false);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{fs, path::Path};

    use tempfile::TempDir;
    use tokio::task::LocalSet;

    use super::*;

    /// A folder that looks like one of control groups, with a command in it that has come to a stop.
    fn groups() -> (TempDir, Rc<Parent>) {
        let folder = TempDir::new().unwrap();
        for group in ["nexus-exec-1", "other"] {
            fs::create_dir(folder.path().join(group)).unwrap();
            fs::write(folder.path().join(group).join("cgroup.freeze"), "0").unwrap();
            fs::write(folder.path().join(group).join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        }
        let parent = Rc::new(Parent::at(folder.path()));
        (folder, parent)
    }

    fn is_frozen(folder: &Path, group: &str) -> bool {
        fs::read_to_string(folder.join(group).join("cgroup.freeze")).unwrap() == "1"
    }

    #[tokio::test(start_paused = true)]
    async fn commands_go_on_when_the_host_is_not_heard_of_again() {
        let (folder, parent) = groups();
        let freezer = Freezer::new(Some(parent));
        let begun = Instant::now();
        LocalSet::new()
            .run_until(async {
                freezer.freeze().await.unwrap();
                assert!(*freezer.frozen.borrow() && is_frozen(folder.path(), "nexus-exec-1"));
                assert!(!is_frozen(folder.path(), "other"), "what is not the agent's is left alone");
                freezer.thawed().await;
            })
            .await;
        assert_eq!(begun.elapsed().as_secs(), MAX_FREEZE.as_secs());
        assert!(!is_frozen(folder.path(), "nexus-exec-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_of_one_freeze_only() {
        let (folder, parent) = groups();
        let freezer = Freezer::new(Some(parent));
        LocalSet::new()
            .run_until(async {
                freezer.freeze().await.unwrap();
                sleep(MAX_FREEZE / 2).await;
                freezer.thaw();
                assert!(!*freezer.frozen.borrow() && !is_frozen(folder.path(), "nexus-exec-1"));
                freezer.freeze().await.unwrap();
                sleep(MAX_FREEZE * 3 / 4).await;
                assert!(*freezer.frozen.borrow(), "the first one's limit has ended the second");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_to_a_stop_is_said() {
        let (folder, parent) = groups();
        fs::write(folder.path().join("nexus-exec-1/cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let freezer = Freezer::new(Some(parent));
        let refused = LocalSet::new().run_until(freezer.freeze()).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::System);
        let nowhere = Freezer::new(None).freeze().await.unwrap_err();
        assert_eq!(nowhere.kind, FailureKind::Refused);
    }
}
