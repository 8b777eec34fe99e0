//! Starting, finding and ending units.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nexus_model::{ExitStatus, InstanceId, ProcessIdentity, Timestamp, failpoint};
use tokio::{sync::oneshot, time::timeout};

use super::{
    ExitRecord, Launch, ProgramRole, UnitError, keeper_processes,
    record::{ProcessRecord, Records},
    start::Attempt,
    systemd::Systemd,
    turns::Turns,
};
use crate::{
    process::{ProcessError, ProcessWatch, Signal},
    vsock::Endpoint,
};

/// How long a process may take to be gone after it was killed, or a keeper after its programs are gone. Freeing the memory
/// of a large guest takes a second.
const END: Duration = Duration::from_secs(10);

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
    /// How the guest's vsock ports are reached, as said at its start.
    pub endpoint: Endpoint,
}

/// A unit that a manager has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUnit {
    /// Its name, without a suffix.
    pub name: String,
    /// Whether anything of it runs, as the manager says.
    pub runs: bool,
    /// The runtime folder that it had, by its command line; none while it runs, and when that says none.
    pub runtime_dir: Option<PathBuf>,
}

/// Where a unit is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Its keeper lives.
    Running(Box<Started>),
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

impl From<ProcessRecord> for Started {
    fn from(record: ProcessRecord) -> Self {
        let ProcessRecord { unit, invocation_id, keeper, leader, others: _, endpoint } = record;
        Self { leader, keeper, unit, invocation_id, endpoint }
    }
}

/// Starts, finds and ends units. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    pub(super) shim: PathBuf,
    pub(super) manager: Option<Systemd>,
    turns: Turns,
}

impl Keeper {
    /// Uses the systemd user manager when one answers on the bus at that address, else the shim alone. The bus is
    /// connected to again whenever it or the manager was restarted. `shim` is the program `nexus-shim`, by absolute path.
    pub async fn detect(shim: PathBuf, bus: Option<zbus::Address>) -> Self {
        let manager = match bus {
            Some(bus) => Systemd::at(bus).await,
            None => None,
        };
        Self { shim, manager, turns: Turns::default() }
    }

    /// What holds the units.
    #[must_use]
    pub const fn kind(&self) -> KeeperKind {
        if self.manager.is_some() { KeeperKind::Systemd } else { KeeperKind::Shim }
    }

    /// Starts a unit; returns once its VMM has been executed. A start that fails leaves nothing behind: no process, no
    /// unit, no file. Neither does one that is dropped before it returns, but then its end is not waited for. What is left of
    /// an older run goes first: should it still run, it is killed.
    ///
    /// # Errors
    /// When a part of it can't be started, or what is left of an older run can't be taken away.
    pub async fn start(&self, spec: &UnitSpec) -> Result<Started, UnitError> {
        check_name(&spec.name)?;
        let turn = self.turns.take(&spec.name).await;
        let invalid = |source| UnitError::Invalid { name: spec.name.clone(), source };
        spec.launch.validate(&spec.runtime_dir).map_err(invalid)?;
        let records = self.open(&spec.runtime_dir)?.ok_or_else(|| UnitError::File {
            action: "open",
            path: spec.runtime_dir.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        if read(&records, Records::process)?.is_some() || read(&records, Records::exit)?.is_some() {
            self.kill_in_turn(&spec.name, &spec.runtime_dir).await?;
            self.collect_in_turn(&spec.name, &spec.runtime_dir).await?;
        }
        let (mut reply, started) = oneshot::channel();
        let (keeper, spec) = (self.clone(), spec.clone());
        let name = spec.name.clone();
        // A task of its own, so that it can clean up when whoever waits for it has gone.
        tokio::spawn(async move {
            let _turn = turn;
            let attempt = Attempt::new(&keeper, &spec);
            let result = tokio::select! {
                result = attempt.run() => Some(result),
                () = reply.closed() => None,
            };
            let undo = match result {
                Some(Ok(started)) => reply.send(Ok(started)).is_err(),
                Some(Err(error)) => {
                    attempt.undo().await;
                    let _ = reply.send(Err(error));
                    false
                }
                None => true,
            };
            if undo {
                attempt.undo().await;
            }
        });
        // The task ends without an answer only when the runtime does.
        let gone = |_| UnitError::Keeper { name, what: "was started while nexusd ends".to_owned() };
        started.await.map_err(gone)?
    }

    /// Looks at a unit, whoever started it. The end of one whose keeper was killed is seen here, and recorded.
    ///
    /// # Errors
    /// When records or processes can't be read.
    pub async fn inspect(&self, name: &str, runtime_dir: &Path) -> Result<UnitState, UnitError> {
        let Some(records) = self.open(runtime_dir)? else { return Ok(UnitState::Absent) };
        if let Some(exit) = read(&records, Records::exit)? {
            return Ok(UnitState::Ended(exit));
        }
        let Some(process) = read(&records, Records::process)? else { return Ok(UnitState::Absent) };
        if watch(name, &process.keeper)?.is_some() {
            return Ok(UnitState::Running(Box::new(process.into())));
        }
        self.settle(name, &records, &process).await.map(UnitState::Ended)
    }

    /// How a unit ended whose leader or keeper has just gone: waits, bounded, until all of it is gone and its keeper has
    /// recorded how.
    ///
    /// # Errors
    /// When there was no such unit, records or processes can't be read, or the keeper doesn't end.
    pub async fn ended(&self, name: &str, runtime_dir: &Path) -> Result<ExitRecord, UnitError> {
        let absent = || UnitError::Absent(name.to_owned());
        let records = self.open(runtime_dir)?.ok_or_else(absent)?;
        if let Some(exit) = read(&records, Records::exit)? {
            return Ok(exit);
        }
        let process = read(&records, Records::process)?.ok_or_else(absent)?;
        self.settle(name, &records, &process).await
    }

    /// Kills all of a unit and returns when it is really gone. Its records stay. Nothing to do is success. Waits for a start
    /// of it that is under way, or is being undone.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&self, name: &str, runtime_dir: &Path) -> Result<(), UnitError> {
        check_name(name)?;
        let _turn = self.turns.take(name).await;
        self.kill_in_turn(name, runtime_dir).await
    }

    async fn kill_in_turn(&self, name: &str, runtime_dir: &Path) -> Result<(), UnitError> {
        if let Some(records) = self.open(runtime_dir)?
            && let Some(process) = read(&records, Records::process)?
        {
            return self.kill_recorded(name, &records, &process).await;
        }
        // Without a record nothing of it is to be kept.
        match &self.manager {
            Some(manager) => manager.forget(&unit_name(name)).await,
            None => Ok(()),
        }
    }

    /// Forgets a unit that ended: its records and its systemd unit. Nothing to do is success.
    ///
    /// # Errors
    /// When it still runs, or a record can't be removed.
    pub async fn collect(&self, name: &str, runtime_dir: &Path) -> Result<(), UnitError> {
        check_name(name)?;
        let _turn = self.turns.take(name).await;
        self.collect_in_turn(name, runtime_dir).await
    }

    async fn collect_in_turn(&self, name: &str, runtime_dir: &Path) -> Result<(), UnitError> {
        if matches!(self.inspect(name, runtime_dir).await?, UnitState::Running(_)) {
            // It may have ended already, and its keeper be on the way out: then it only takes a moment.
            let Some(records) = self.open(runtime_dir)? else { return Ok(()) };
            let Some(process) = read(&records, Records::process)? else { return Ok(()) };
            if watch(name, &process.leader)?.is_some() {
                return Err(UnitError::Running(name.to_owned()));
            }
            self.settle(name, &records, &process).await?;
        }
        if let Some(manager) = &self.manager {
            manager.forget(&unit_name(name)).await?;
        }
        failpoint("unit.forgotten");
        let Some(records) = self.open(runtime_dir)? else { return Ok(()) };
        records.remove().map_err(|source| UnitError::File {
            action: "remove the records in",
            path: runtime_dir.to_owned(),
            source,
        })
    }

    /// Names of this instance's units: those that run, and with a manager those that ended and were not collected. Sorted.
    ///
    /// # Errors
    /// When the manager or `/proc` can't be read.
    pub async fn list(&self, instance: InstanceId) -> Result<Vec<String>, UnitError> {
        let processes = keeper_processes(&format!("nexus-{instance}-"))?;
        let mut names: Vec<String> = processes.into_iter().map(|keeper| keeper.unit).collect();
        names.extend(self.units(instance).await?.into_iter().map(|unit| unit.name));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// This instance's units that a manager has, also those that ended. Without a manager there are none.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn units(&self, instance: InstanceId) -> Result<Vec<HeldUnit>, UnitError> {
        match &self.manager {
            Some(manager) => manager.list(&format!("nexus-{instance}-")).await,
            None => Ok(Vec::new()),
        }
    }

    /// Kills a unit by its record, which stays.
    pub(super) async fn kill_recorded(
        &self,
        name: &str,
        records: &Records,
        process: &ProcessRecord,
    ) -> Result<(), UnitError> {
        if let Some(leader) = watch(name, &process.leader)? {
            leader.signal(Signal::SIGKILL).map_err(process_error(name))?;
        }
        failpoint("unit.killed");
        self.settle(name, records, process).await.map(|_| ())
    }

    pub(super) fn open(&self, runtime_dir: &Path) -> Result<Option<Records>, UnitError> {
        Records::open(runtime_dir).map_err(|source| UnitError::File {
            action: "open",
            path: runtime_dir.to_owned(),
            source,
        })
    }

    /// Waits until all of a unit is gone whose end has begun, and tells how it ended. Writes the record itself when the
    /// keeper could not.
    async fn settle(&self, name: &str, records: &Records, process: &ProcessRecord) -> Result<ExitRecord, UnitError> {
        if let Some(keeper) = watch(name, &process.keeper)?
            && !gone(name, &keeper).await?
        {
            // It hangs. Without it, nothing of its programs lives.
            keeper.signal(Signal::SIGKILL).map_err(process_error(name))?;
        }
        let programs = process.others.iter().map(|program| &program.process).chain([&process.leader, &process.keeper]);
        for identity in programs {
            if let Some(program) = watch(name, identity)?
                && !gone(name, &program).await?
            {
                return Err(UnitError::Timeout { name: name.to_owned(), what: "end", after: END });
            }
        }
        if let Some(exit) = read(records, Records::exit)? {
            return Ok(exit);
        }
        let status = match &self.manager {
            Some(manager) if !process.unit.is_empty() => manager.exit_status(&process.unit).await?,
            _ => None,
        };
        let exit = ExitRecord {
            who: ProgramRole::Vmm,
            status: status.unwrap_or(ExitStatus::Unknown),
            at: Timestamp::from(SystemTime::now()),
        };
        // So that it ended at the same time for everybody who asks. A disk without room must keep nobody from going on.
        if let Err(error) = records.write_exit(&exit) {
            tracing::warn!(unit = name, %error, "how a unit ended could not be recorded");
        }
        Ok(exit)
    }
}

/// The systemd unit of that name.
pub(super) fn unit_name(name: &str) -> String {
    format!("{name}.service")
}

pub(super) fn watch(name: &str, process: &ProcessIdentity) -> Result<Option<ProcessWatch>, UnitError> {
    ProcessWatch::open(process).map_err(process_error(name))
}

/// Waits for a process to end; false when it takes too long.
pub(super) async fn gone(name: &str, process: &ProcessWatch) -> Result<bool, UnitError> {
    match timeout(END, process.exited()).await {
        Ok(ended) => ended.map(|()| true).map_err(process_error(name)),
        Err(_) => Ok(false),
    }
}

pub(super) fn process_error(name: &str) -> impl Fn(ProcessError) -> UnitError {
    move |source| UnitError::Process { name: name.to_owned(), source }
}

fn read<T>(records: &Records, read: impl Fn(&Records) -> io::Result<T>) -> Result<T, UnitError> {
    read(records).map_err(|source| UnitError::File {
        action: "read the records in",
        path: records.path().to_owned(),
        source,
    })
}

/// What systemd takes as it is in a unit's name, without escapes: it also must not look like an option or a path.
fn check_name(name: &str) -> Result<(), UnitError> {
    let valid = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if valid { Ok(()) } else { Err(UnitError::Name(name.to_owned())) }
}
