//! The vsock port of a terminal.

use std::{io, rc::Rc};

use tokio::task::{JoinHandle, spawn_local};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::{agent::Agent, listener::accept_vsock};

/// A port on which viewers are awaited as long as this lives.
#[derive(Debug)]
pub(super) struct Port {
    number: u32,
    /// None for a mere process, whose one socket takes the connections to all ports.
    serving: Option<(DropGuard, JoinHandle<()>)>,
}

impl Port {
    /// Takes a port.
    pub(super) fn open(number: u32, is_vsock: bool, agent: &Rc<Agent>) -> io::Result<Self> {
        let listener = is_vsock.then(|| VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, number))).transpose()?;
        let serving = listener.map(|listener| {
            let (closing, agent) = (CancellationToken::new(), Rc::clone(agent));
            let guard = closing.clone().drop_guard();
            let serving = spawn_local(async move {
                let _ = closing.run_until_cancelled(accept_vsock(&listener, number, &agent)).await;
            });
            (guard, serving)
        });
        Ok(Self { number, serving })
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Nobody listens there any more when this is done.
    pub(super) async fn close(self) {
        if let Some((guard, serving)) = self.serving {
            drop(guard);
            let _ = serving.await;
        }
    }
}
