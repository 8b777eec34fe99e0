//! Hearing that something has changed, of everything at once.

use futures_util::StreamExt;
use nexus_dbus::{ROOT, SERVICE};
use tokio::sync::watch;
use zbus::{MatchRule, Message, MessageStream, message::Type};

use crate::{
    bus::{Bus, owner_changes},
    failure::Failure,
};

/// Wakes up when an object that lasts has come, gone or changed, and when the daemon has. What happens before it is asked is
/// one piece of news, however much that is.
pub(crate) struct News(watch::Receiver<()>);

impl News {
    /// Listens. Look once after this, and again after each [`News::next`].
    pub(crate) async fn listen(bus: &Bus) -> Result<Self, Failure> {
        let (mut changes, mut owner) = bus
            .ask("follow what happens", async {
                let changes =
                    MatchRule::builder().msg_type(Type::Signal).sender(SERVICE).path_namespace(ROOT).build()?;
                tokio::try_join!(
                    MessageStream::for_match_rule(changes, bus.connection(), None),
                    MessageStream::for_match_rule(owner_changes()?, bus.connection(), None),
                )
            })
            .await?;
        let (tell, told) = watch::channel(());
        // A task of its own: a stream that is not read stops the whole connection once it is full.
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = changes.next() => message,
                    message = owner.next() => message,
                };
                match message {
                    Some(Ok(message)) if !is_news(&message) => {}
                    Some(_) => {
                        tell.send_replace(());
                    }
                    None => return,
                }
                if tell.is_closed() {
                    return;
                }
            }
        });
        Ok(Self(told))
    }

    /// The next change; false when there will be none, since the connection to the bus is gone.
    pub(crate) async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// Whatever has changed so far is no news any more.
    pub(crate) fn forget(&mut self) {
        self.0.mark_unchanged();
    }
}

/// Not what jobs and the daemon's own counters say, which change more often than all else.
fn is_news(message: &Message) -> bool {
    let header = message.header();
    let path = header.path().map(|path| path.as_str()).unwrap_or_default();
    let below = path.strip_prefix(ROOT).unwrap_or_default();
    match header.member().map(|member| member.as_str()).unwrap_or_default() {
        "NameOwnerChanged" | "InterfacesAdded" | "InterfacesRemoved" => true,
        "PropertiesChanged" => !below.is_empty() && !below.starts_with("/job/"),
        _ => false,
    }
}
