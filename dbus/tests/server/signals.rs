//! What a client hears, in order.

use futures_util::StreamExt;
use zbus::{Connection, Message, MessageStream, message::Type};

use crate::fixture::LONG;

/// All signals that arrive on a connection from now on.
pub(crate) struct Signals(MessageStream);

/// A signal, as `path member(body)` with the body in zbus' own notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) path: String,
    pub(crate) member: String,
    pub(crate) body: String,
}

impl Signals {
    pub(crate) async fn of(connection: &Connection) -> Self {
        // Whatever was sent before has arrived with this answer, and is not heard any more.
        let peer = zbus::fdo::PeerProxy::new(connection, nexus_dbus::SERVICE, nexus_dbus::ROOT).await.unwrap();
        peer.ping().await.unwrap();
        Self(MessageStream::from(connection))
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            let message = tokio::time::timeout(LONG, self.0.next()).await.expect("a signal in time");
            let message = message.expect("a connection").expect("a message");
            if message.message_type() == Type::Signal {
                return Signal::of(&message);
            }
        }
    }

    /// The next signals, up to the first that `last` accepts.
    pub(crate) async fn until(&mut self, last: impl Fn(&Signal) -> bool) -> Vec<Signal> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.next().await);
            if heard.last().is_some_and(&last) {
                return heard;
            }
        }
    }
}

impl Signal {
    fn of(message: &Message) -> Self {
        let header = message.header();
        let body = message.body();
        let body: zbus::Structure<'_> = body.deserialize().unwrap();
        Self {
            path: header.path().unwrap().trim_start_matches("/org/workfort/Nexus1").to_owned(),
            member: header.member().unwrap().to_string(),
            body: body.to_string(),
        }
    }

    pub(crate) fn is(&self, path: &str, member: &str) -> bool {
        self.path == path && self.member == member
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}
