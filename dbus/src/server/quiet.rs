//! `Vm` as it is registered: with setters that announce nothing.

use std::{collections::HashMap, fmt::Write};

use zbus::{
    BoxDBusError, Connection, ObjectServer, OwnedVariant, Type, Variant,
    export::async_trait::async_trait,
    fdo,
    message::{Header, Message},
    names::{InterfaceName, MemberName},
    object_server::{DispatchResult, Interface, SignalEmitter},
};

use super::vm::Vm;
use crate::Error;

/// zbus announces a property itself once its setter has returned, and the projector announces the transition: two
/// signals for one change, and not in order with others. So this answers `Set` in zbus' place and passes on all the
/// rest. `Interface` is not stable across zbus releases, which is one reason for the exact version in `Cargo.toml`.
#[derive(Debug)]
pub(super) struct Quiet(pub(super) Vm);

impl Quiet {
    async fn assign(
        &self,
        property: &str,
        value: &Variant<'_>,
        bus: &Connection,
        header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        match property {
            "Label" => self.0.set_label(decode(property, value)?, bus, header).await,
            "Tags" => self.0.set_tags(decode(property, value)?, bus, header).await,
            "Autostart" => self.0.set_autostart(decode(property, value)?, bus, header).await,
            "RestartPolicy" => self.0.set_restart_policy(decode(property, value)?, bus, header).await,
            _ => Err(fdo::Error::UnknownProperty(format!("there is no property `{property}` that can be set")).into()),
        }
    }
}

fn decode<T>(property: &str, value: &Variant<'_>) -> Result<T, Error>
where
    T: Type + TryFrom<OwnedVariant>,
{
    let (wanted, given) = (T::SIGNATURE, value.value_signature());
    let wrong = || Error::invalid_args(format!("property `{property}` must be of type `{wanted}`, not `{given}`"));
    if *given != *wanted {
        return Err(wrong());
    }
    value.try_to_owned().ok().and_then(|value| value.try_into().ok()).ok_or_else(wrong)
}

#[async_trait]
impl Interface for Quiet {
    fn name() -> InterfaceName<'static> {
        Vm::name()
    }

    fn spawn_tasks_for_methods(&self) -> bool {
        self.0.spawn_tasks_for_methods()
    }

    async fn get(
        &self,
        property: &str,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        self.0.get(property, server, connection, header, emitter).await
    }

    async fn get_all(
        &self,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        self.0.get_all(server, connection, header, emitter).await
    }

    fn set<'call>(
        &'call self,
        property: &'call str,
        value: &'call Variant<'_>,
        _server: &'call ObjectServer,
        connection: &'call Connection,
        header: Option<&'call Header<'_>>,
        _emitter: &'call SignalEmitter<'_>,
    ) -> DispatchResult<'call> {
        DispatchResult::Async(Box::pin(async move {
            let assigned = self.assign(property, value, connection, header.cloned()).await;
            assigned.map_err(|error| Box::new(error) as BoxDBusError)
        }))
    }

    async fn set_mut(
        &mut self,
        _property: &str,
        _value: &Variant<'_>,
        _server: &ObjectServer,
        _connection: &Connection,
        _header: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        None
    }

    fn call<'call>(
        &'call self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        self.0.call(server, connection, message, name)
    }

    fn call_mut<'call>(
        &'call mut self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        self.0.call_mut(server, connection, message, name)
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        self.0.introspect_to_writer(writer, level);
    }
}
