//! How far a call has come.

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};

/// The way to tell the caller.
#[derive(Debug)]
pub struct Progress {
    token: ProgressToken,
    peer: Peer<RoleServer>,
}

impl Progress {
    pub(crate) const fn new(token: ProgressToken, peer: Peer<RoleServer>) -> Self {
        Self { token, peer }
    }

    /// Returns when it is written; whether it was. Of a client that is gone its stream tells as well.
    pub async fn tell(&self, progress: f64, message: String) -> bool {
        let progress = ProgressNotificationParam::new(self.token.clone(), progress).with_message(message);
        self.peer.notify_progress(progress).await.is_ok()
    }
}
