//! The place where viewers come.

use std::net::SocketAddr;

use futures_util::{StreamExt, stream::FuturesUnordered};
use nexus_protocol::Token;
use tokio::net::TcpListener;

use super::{Loopback, door::Door, lobby::Lobby, viewer};
use crate::{failure::Failure, guest::Guest, interrupt::Interrupts, output::sentence};

/// The terminal that viewers are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal<'a> {
    /// The VM's name, for people.
    pub(crate) vm: &'a str,
    /// The terminal's name.
    pub(crate) name: &'a str,
    /// Whether what they type is dropped.
    pub(crate) read_only: bool,
}

/// Shows a terminal to whoever connects and knows the token.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    here: SocketAddr,
    token: Token,
}

impl Server {
    /// Listens, with a new token.
    pub(crate) async fn listen(Loopback(address): Loopback) -> Result<Self, Failure> {
        let cannot = |error: &dyn std::error::Error| {
            Failure::new(format!("cannot wait for WebSockets on {address}")).because(sentence(&error.to_string()))
        };
        let listener = TcpListener::bind(address).await.map_err(|error| cannot(&error))?;
        let here = listener.local_addr().map_err(|error| cannot(&error))?;
        let token = Token::random().map_err(|error| cannot(&error))?;
        Ok(Self { listener, here, token })
    }

    /// Where to connect.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.here)
    }

    /// What who connects has to know.
    pub(crate) fn token(&self) -> &str {
        self.token.reveal()
    }

    /// Shows the terminal until a signal comes, whose number this is.
    pub(crate) async fn serve(&self, guest: &Guest<'_>, terminal: Terminal<'_>, interrupts: &mut Interrupts) -> u8 {
        let (door, lobby) = (Door::default(), Lobby::default());
        let accept = async || self.listener.accept().await.map(|(stream, _)| stream);
        let mut viewers = FuturesUnordered::new();
        loop {
            tokio::select! {
                number = interrupts.next() => return number,
                stream = door.next(accept) => {
                    viewers.push(viewer::serve(stream, lobby.enter(), self.here, &self.token, guest, terminal));
                }
                Some(()) = viewers.next() => {}
            }
        }
    }
}
