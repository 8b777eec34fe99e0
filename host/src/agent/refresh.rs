//! A guest that is about to stand still, or has stood still.

use std::{io, time::Duration};

use nexus_protocol::{Answer, Call, Features, Refresh, Refreshed};

use super::{AgentClient, AgentError};

impl AgentClient {
    /// Has all commands of the agent stand still, until [`Self::refresh`] or for
    /// [`MAX_FREEZE`](nexus_protocol::MAX_FREEZE).
    ///
    /// # Errors
    /// [`AgentError::TooOld`]; [`AgentError::Failed`] when not all of them do; [`AgentError::Timeout`];
    /// [`AgentError::Gone`]. Some may stand still then.
    pub async fn freeze(&self, deadline: Duration) -> Result<(), AgentError> {
        const ACT: &str = "have its commands stand still";
        if !self.has(Features::CLOCK) {
            return Err(self.too_old(ACT));
        }
        match self.call_within(ACT, deadline, Call::Freeze).await? {
            Answer::Done => Ok(()),
            _ => Err(AgentError::Nonsense),
        }
    }

    /// Gives the guest this machine's time and new entropy, and lets its commands go on if they stand still.
    ///
    /// # Errors
    /// [`AgentError::TooOld`]; [`AgentError::Failed`] when the clock or the random pool can't be changed;
    /// [`AgentError::Timeout`]; [`AgentError::Gone`]; [`AgentError::Entropy`].
    pub async fn refresh(&self, deadline: Duration) -> Result<Refreshed, AgentError> {
        const ACT: &str = "put its clock right";
        if !self.has(Features::CLOCK) {
            return Err(self.too_old(ACT));
        }
        let refresh = Refresh::of_now().map_err(|error| AgentError::Entropy(io::Error::from(error)))?;
        match self.call_within(ACT, deadline, Call::Refresh(refresh)).await? {
            Answer::Refreshed(refreshed) => Ok(refreshed),
            _ => Err(AgentError::Nonsense),
        }
    }
}
