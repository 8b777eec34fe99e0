//! A private message bus.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use futures_util::StreamExt;
use nexus_dbus::SERVICE;
use tempfile::TempDir;
use zbus::{Connection, connection::Builder, fdo::DBusProxy};

use crate::PATIENCE;

/// A dbus-daemon that can start nothing, and ends with this value.
pub struct TestBus {
    daemon: Mutex<Option<Child>>,
    folder: TempDir,
}

impl TestBus {
    /// A new one, that listens.
    ///
    /// # Panics
    /// When there is no dbus-daemon, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("nxbus").tempdir().expect("a temporary folder");
        // A bus is for whoever may enter its folder; a test may run something as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("an own folder");
        let bus = Self { daemon: Mutex::new(None), folder };
        let configuration = format!(
            r#"<busconfig>
                 <type>session</type>
                 <listen>{}</listen>
                 <policy context="default">
                   <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
                 </policy>
               </busconfig>"#,
            bus.address()
        );
        fs::write(bus.configuration(), configuration).expect("a temporary file");
        bus.start_again();
        bus
    }

    /// Starts it after [`stop`](Self::stop), at the same address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", self.configuration().display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need dbus-daemon");
        // It prints its address once it listens.
        let mut address = String::new();
        let output = daemon.stdout.take().expect("its output is a pipe");
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(daemon);
        BufReader::new(output).read_line(&mut address).expect("the bus prints its address");
        assert!(!address.is_empty(), "the bus did not start");
    }

    /// Ends it, and with it every connection.
    pub fn stop(&self) {
        if let Some(mut daemon) = self.daemon.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// For `DBUS_SESSION_BUS_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.folder.path().join("socket").display())
    }

    /// A client.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn connect(&self) -> Connection {
        Builder::address(self.address().as_str()).build().await.expect("the bus answers")
    }

    /// Whether somebody has Nexus' name.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub async fn has_nexus(&self) -> bool {
        let connection = self.connect().await;
        let bus = DBusProxy::new(&connection).await.expect("the bus answers");
        bus.name_has_owner(SERVICE.try_into().expect("a name")).await.expect("the bus answers")
    }

    /// Waits until somebody has Nexus' name.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait_for_nexus(&self) {
        let connection = self.connect().await;
        let bus = DBusProxy::new(&connection).await.expect("the bus answers");
        let mut owners = bus.receive_name_owner_changed().await.expect("the bus answers");
        let taken = async {
            while !bus.name_has_owner(SERVICE.try_into().expect("a name")).await.expect("the bus answers") {
                owners.next().await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("nexusd is on the bus in time");
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("bus.conf")
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        self.stop();
    }
}
