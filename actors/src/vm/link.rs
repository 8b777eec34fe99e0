//! What can be asked about a VM's connections.

use nexus_model::{ErrorKind, Name, Timestamp, vm::VmState};

use super::connection::{AGENT, ConnectionMessage};
use crate::{Engine, Error, Place, ask::ask, snapshot::ConnectionStatistics};

impl Engine {
    /// What a connection has carried since this nexusd began.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn connection_statistics(&self, vm: &Name, number: u32) -> Result<ConnectionStatistics, Error> {
        let context = self.vm(vm)?;
        self.has_connection(vm, number)?;
        Ok(context.statistics.read())
    }

    /// Hangs up. The connection to the agent is dialled again at once.
    ///
    /// # Errors
    /// `NotFound`; `InvalidState` when it is not open, or the VM is paused.
    pub async fn close_connection(&self, vm: &Name, number: u32) -> Result<(), Error> {
        let context = self.vm(vm)?;
        self.has_connection(vm, number)?;
        if self.board.vms().get(vm).is_some_and(|picture| picture.lifecycle.state() == VmState::Paused) {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("the guest of VM `{vm}` could not be connected to again: resume the VM first"),
            ));
        }
        let whom = Place::Connection(vm.clone(), number).to_string();
        ask(&context.connection, &whom, ConnectionMessage::Close).await?
    }

    /// When the guest has answered last; never, when there is no such VM.
    #[must_use]
    pub fn last_heartbeat(&self, vm: &Name) -> Timestamp {
        self.vm(vm).map_or(Timestamp::NEVER, |context| context.heartbeat_at())
    }

    fn has_connection(&self, vm: &Name, number: u32) -> Result<(), Error> {
        if number == AGENT { Ok(()) } else { Err(Error::not_found("connection", &format!("{vm}/{number}"))) }
    }
}
