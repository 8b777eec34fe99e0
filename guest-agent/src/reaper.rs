//! Children, own and inherited, that have ended.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc};

use nexus_model::ExitStatus;
use rustix::process::{WaitOptions, wait};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::spawn_local,
};

/// Collects every child that ends, and tells whoever waits for it. The agent is the parent of all orphans: of the guest's
/// as process 1, else of its commands'.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: Rc<RefCell<HashMap<u32, oneshot::Sender<ExitStatus>>>>,
}

impl Reaper {
    /// Starts to reap.
    pub(crate) fn start() -> io::Result<Self> {
        if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
            return Err(error.into());
        }
        let reaper = Self::default();
        let waiting = Rc::clone(&reaper.waiting);
        let mut children = signal(SignalKind::child())?;
        spawn_local(async move {
            loop {
                reap(&waiting);
                if children.recv().await.is_none() {
                    break;
                }
            }
        });
        Ok(reaper)
    }

    /// How the child `pid` ends. To be called before anything is awaited after its start: until then nothing is reaped,
    /// since everything happens on one thread.
    pub(crate) fn expect(&self, pid: u32) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, sender);
        receiver
    }
}

fn reap(waiting: &RefCell<HashMap<u32, oneshot::Sender<ExitStatus>>>) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let status = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => continue,
        };
        let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
        if let Some(sender) = waiting.borrow_mut().remove(&pid) {
            // Nobody may be interested any more.
            let _ = sender.send(status);
        }
    }
}
