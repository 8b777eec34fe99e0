//! What a client hears, in order.

use std::{collections::BTreeMap, num::NonZeroUsize};

use futures_util::StreamExt;
use nexus_dbus::SERVICE;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant, Type, message};

use crate::daemon::PATIENCE;

/// All of Nexus' signals from now on.
pub struct Signals(MessageStream);

/// A signal, with its body in zbus' own notation.
#[derive(Clone, Debug)]
pub struct Signal {
    message: Message,
    /// The object that sent it.
    pub path: String,
    /// Its name.
    pub member: String,
    /// What it says.
    pub body: String,
}

/// What a `PropertiesChanged` says.
#[derive(Debug)]
pub struct Changed {
    /// The interface whose properties they are.
    pub interface: String,
    /// The new values.
    pub properties: BTreeMap<String, OwnedVariant>,
    /// What has to be asked for.
    pub invalidated: Vec<String>,
}

impl Signals {
    /// Listens.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn of(connection: &Connection) -> Self {
        let rule = MatchRule::builder().msg_type(message::Type::Signal).sender(SERVICE).build().expect("a name");
        // Nobody reads while a test does something else, and a full queue would stop the whole connection.
        let queue = NonZeroUsize::new(100_000);
        Self(MessageStream::for_match_rule(rule, connection, queue).await.expect("the bus answers"))
    }

    /// The next signal.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn next(&mut self) -> Signal {
        let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a signal in time");
        Signal::of(&message.expect("a connection").expect("a message"))
    }

    /// The next signals, up to the first that `last` accepts.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn until(&mut self, last: impl Fn(&Signal) -> bool) -> Vec<Signal> {
        let mut heard = Vec::new();
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await {
                Ok(message) => heard.push(Signal::of(&message.expect("a connection").expect("a message"))),
                Err(_) => panic!("the signal does not come; heard {heard:#?}"),
            }
            if heard.last().is_some_and(&last) {
                return heard;
            }
        }
    }

    /// Waits for a signal, however long that takes.
    pub(crate) async fn heard(&mut self, wanted: impl Fn(&Signal) -> bool) {
        while let Some(Ok(message)) = self.0.next().await {
            if wanted(&Signal::of(&message)) {
                return;
            }
        }
        // Without a connection there will be none.
        std::future::pending::<()>().await;
    }
}

impl Signal {
    fn of(message: &Message) -> Self {
        let header = message.header();
        let body = message.body();
        let text = body.deserialize::<zbus::Structure<'_>>().map(|body| body.to_string()).unwrap_or_default();
        Self {
            message: message.clone(),
            path: header.path().map(ToString::to_string).unwrap_or_default(),
            member: header.member().map(ToString::to_string).unwrap_or_default(),
            body: text,
        }
    }

    /// Whether it is this signal of this object.
    #[must_use]
    pub fn is(&self, path: &str, member: &str) -> bool {
        self.path == path && self.member == member
    }

    /// What it says, as a type.
    ///
    /// # Panics
    /// When it is of another one.
    #[must_use]
    pub fn read<T: serde::de::DeserializeOwned + Type>(&self) -> T {
        self.message.body().deserialize().unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What has changed, when it is a `PropertiesChanged`.
    #[must_use]
    pub fn changed(&self) -> Option<Changed> {
        let (interface, properties, invalidated) = (self.member == "PropertiesChanged").then(|| self.read())?;
        Some(Changed { interface, properties, invalidated })
    }

    /// Whether it says this.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}
