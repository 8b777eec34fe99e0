//! A nexusd that a test breaks.

use std::{fs, ops::Deref, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::signal::{Signal, kill};
use tokio::process::Command;

use crate::{Home, PATIENCE, TestBus, TestDaemon};

/// A nexusd with failpoints (see `nexusd/src/failpoints.rs`). None is set at first.
pub struct BreakableDaemon {
    daemon: TestDaemon,
    failpoints: PathBuf,
}

impl BreakableDaemon {
    /// A new one, on a bus and in folders of its own.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// As [`start`](Self::start), with a command that is changed.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(Arc::new(Home::new()), Arc::new(TestBus::start()), change).await
    }

    async fn start_in(home: Arc<Home>, bus: Arc<TestBus>, change: impl FnOnce(&mut Command)) -> Self {
        let failpoints = home.path().join("failpoints");
        fs::write(&failpoints, "").expect("a file");
        let mut command = TestDaemon::breakable(&home, &bus.address(), &failpoints);
        change(&mut command);
        Self { daemon: TestDaemon::start_with(home, bus, command).await, failpoints }
    }

    /// Sets these failpoints and no others. They hold when this returns.
    ///
    /// # Panics
    /// When it does not obey.
    pub async fn set(&self, lines: &str) {
        let told = self.failpoints.with_extension("heap");
        let _ = fs::remove_file(&told);
        fs::write(&self.failpoints, lines).expect("a file");
        kill(self.pid(), Signal::SIGUSR1).expect("nexusd runs");
        let obeyed = async {
            // The program says so by a file, which nobody tells of.
            while !told.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let obeyed = tokio::time::timeout(PATIENCE, obeyed).await;
        assert!(obeyed.is_ok(), "nexusd does not obey\n{}", self.log());
    }

    /// What its heap holds, in bytes. Unsets the failpoints.
    ///
    /// # Panics
    /// When it does not obey.
    pub async fn heap_bytes(&self) -> i64 {
        self.set("").await;
        let written = fs::read_to_string(self.failpoints.with_extension("heap")).expect("it was written");
        written.parse().expect("a number")
    }

    /// Waits until it ends by itself, and gives its exit code. One that a failpoint aborted has none.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn broken(&mut self) -> Option<i32> {
        self.daemon.ended().await.code()
    }

    /// Another one in its place, whole again.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn next(self) -> Self {
        Self::start_in(self.home.clone(), self.bus.clone(), |_| ()).await
    }
}

impl Deref for BreakableDaemon {
    type Target = TestDaemon;

    fn deref(&self) -> &TestDaemon {
        &self.daemon
    }
}
