//! What can be asked about a VM's connections.

use nexus_host::agent::AgentClient;
use nexus_model::{ErrorKind, Name, Timestamp, vm::VmState};

use super::{
    VmContext,
    connection::{AGENT, ConnectionMessage},
    spare::SpareContext,
};
use crate::{Engine, Error, Place, ask::ask, snapshot::ConnectionStatistics};

impl Engine {
    /// What a connection has carried: that to the agent since this nexusd began, a client's stream since it is open, and one
    /// that nobody has wanted yet nothing.
    ///
    /// # Errors
    /// `NotFound`; of a client's stream also `GuestUnavailable`, `GuestFailed` and `Timeout`, since the agent counts.
    pub async fn connection_statistics(&self, vm: &Name, number: u32) -> Result<ConnectionStatistics, Error> {
        let context = self.vm(vm)?;
        if number == AGENT {
            return Ok(context.statistics.read());
        }
        if let Some(spare) = spare(&context, number) {
            return Ok(spare.statistics.read());
        }
        let (agent, stream) = self.stream_of(vm, number)?;
        let streams = agent.list_streams().await?;
        let info = streams.into_iter().find(|info| info.stream == stream).ok_or_else(|| unknown(vm, number))?;
        Ok(ConnectionStatistics {
            bytes_in: info.to_host,
            bytes_out: info.from_host,
            ..ConnectionStatistics::default()
        })
    }

    /// Hangs up. What nexusd keeps is dialled again at once; a client's stream ends.
    ///
    /// # Errors
    /// `NotFound`; `InvalidState` when what nexusd keeps is not open, or the VM is paused; of a client's stream
    /// `GuestUnavailable`, `GuestFailed` and `Timeout`, since the agent closes it.
    pub async fn close_connection(&self, vm: &Name, number: u32) -> Result<(), Error> {
        let context = self.vm(vm)?;
        let slot = match spare(&context, number) {
            Some(spare) => &spare.slot,
            None if number == AGENT => &context.connection,
            None => {
                let (agent, stream) = self.stream_of(vm, number)?;
                return Ok(agent.close_stream(stream).await?);
            }
        };
        if self.board.vms().get(vm).is_some_and(|picture| picture.lifecycle.state() == VmState::Paused) {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("the guest of VM `{vm}` could not be connected to again: resume the VM first"),
            ));
        }
        let whom = Place::Connection(vm.clone(), number).to_string();
        ask(slot, &whom, ConnectionMessage::Close).await?
    }

    /// When the guest has answered last; never, when there is no such VM.
    #[must_use]
    pub fn last_heartbeat(&self, vm: &Name) -> Timestamp {
        self.vm(vm).map_or(Timestamp::NEVER, |context| context.heartbeat_at())
    }

    /// A client's stream as the agent knows it.
    fn stream_of(&self, vm: &Name, number: u32) -> Result<(AgentClient, u64), Error> {
        let stream = self.vm(vm)?.streams.find(number).ok_or_else(|| unknown(vm, number))?;
        let agent = self.agent(vm)?;
        // Another run of the agent's has other streams by the same numbers.
        if agent.run_id() == stream.seen.run_id { Ok((agent, stream.seen.stream)) } else { Err(unknown(vm, number)) }
    }
}

/// That connection, if it is a spare one.
fn spare(vm: &VmContext, number: u32) -> Option<&SpareContext> {
    vm.spares.iter().map(AsRef::as_ref).find(|spare| spare.number() == number)
}

fn unknown(vm: &Name, number: u32) -> Error {
    Error::not_found("connection", &format!("{vm}/{number}"))
}
