//! What a service tells its manager.

use std::{path::Path, time::Duration};

use tokio::net::UnixDatagram;

/// The manager's end of `sd_notify(3)`.
pub struct Notifications {
    socket: UnixDatagram,
}

impl Notifications {
    /// Listens on a socket at `path`, in place of one that is there.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn listen(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        Self { socket: UnixDatagram::bind(path).expect("a socket for notifications") }
    }

    /// The lines of the next message.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn next(&self, patience: Duration) -> Vec<String> {
        let received = tokio::time::timeout(patience, self.receive()).await;
        received.expect("a notification in time")
    }

    /// The lines of the next message, however long that takes.
    ///
    /// # Panics
    /// When the socket fails.
    pub async fn receive(&self) -> Vec<String> {
        let mut message = vec![0; 4096];
        let length = self.socket.recv(&mut message).await.expect("a notification");
        message.truncate(length);
        String::from_utf8(message).expect("notifications are text").lines().map(ToOwned::to_owned).collect()
    }
}
