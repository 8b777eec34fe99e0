//! `PropertiesChanged`, one per interface and transition.

use std::{borrow::Cow, collections::HashMap};

use zbus::{
    Connection, OwnedVariant, Variant,
    fdo::Properties,
    object_server::{Interface, SignalEmitter},
};

/// Announces what differs between two pictures of one interface, if anything does. The getters say what that is, so an
/// interface's properties are listed in one place only.
pub(super) async fn differences<I: Interface>(emitter: &SignalEmitter<'_>, before: &I, after: &I) -> zbus::Result<()> {
    let before = properties(emitter, before).await?;
    let after = properties(emitter, after).await?;
    let differs = |(name, value): &(&String, &OwnedVariant)| before.get(*name) != Some(*value);
    let mut changed = HashMap::new();
    for (name, value) in after.iter().filter(differs) {
        changed.insert(name.as_str(), Variant::from(value.try_clone()?));
    }
    if changed.is_empty() {
        return Ok(());
    }
    Properties::properties_changed(emitter, I::name(), changed, Cow::Borrowed(&[])).await
}

/// Announces that a property is another, and not what it is.
pub(super) async fn invalidated<I: Interface>(emitter: &SignalEmitter<'_>, property: &str) -> zbus::Result<()> {
    Properties::properties_changed(emitter, I::name(), HashMap::new(), Cow::Borrowed(&[property])).await
}

async fn properties<I: Interface>(
    emitter: &SignalEmitter<'_>,
    interface: &I,
) -> zbus::Result<HashMap<String, OwnedVariant>> {
    let connection: &Connection = emitter.connection();
    Ok(interface.get_all(connection.object_server(), connection, None, emitter).await?)
}
