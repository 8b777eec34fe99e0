//! The vsock port of a terminal.

use std::{future::pending, io, rc::Rc};

use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::{agent::Agent, listener::accept_vsock};

/// A port on which viewers are awaited as long as this lives.
#[derive(Debug)]
pub(super) struct Port {
    number: u32,
    /// None for a mere process, whose one socket takes the connections to all ports.
    listener: Option<VsockListener>,
}

impl Port {
    /// Takes a port.
    pub(super) fn open(number: u32, is_vsock: bool) -> io::Result<Self> {
        let listener = is_vsock.then(|| VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, number))).transpose()?;
        Ok(Self { number, listener })
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Takes connections for ever.
    pub(super) async fn serve(&self, agent: &Rc<Agent>) {
        match &self.listener {
            Some(listener) => accept_vsock(listener, self.number, agent).await,
            None => pending().await,
        }
    }
}
