//! The part of the systemd user manager that units need, see `org.freedesktop.systemd1(5)`.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use nexus_model::ExitStatus;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout, timeout_at},
};
use zbus::{
    Address, Connection, OwnedObjectPath, Variant, connection,
    fdo::DBusProxy,
    names::{BusName, WellKnownName},
    proxy,
};

use super::{HeldUnit, UnitError};

const BUS_NAME: &str = "org.freedesktop.systemd1";
/// Where units lie in the tree of control groups.
const SLICE: &str = "nexus.slice";
/// The most threads of one VM: QEMU's own, a few for each virtual CPU, and its pool for the disk.
const TASKS_MAX: u64 = 1024;
/// How long the manager may take to stop a unit, all of whose processes the kernel kills.
const STOP: Duration = Duration::from_secs(10);
/// How long the manager may take to be on its bus and answer. Both are restarted in less than a second.
const ANSWER: Duration = Duration::from_secs(5);
/// How long until a bus that could not be reached is dialled again, within [`ANSWER`].
const REDIAL: Duration = Duration::from_millis(100);
/// How long a call may take: as long as by the default of `dbus_connection_send_with_reply(3)`.
const CALL: Duration = Duration::from_secs(25);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    #[allow(clippy::type_complexity)]
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<
        Vec<(String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath)>,
    >;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
}

#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_code(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_start(&self) -> zbus::Result<Vec<Command>>;
}

/// A command of a service: program, arguments, whether it may fail, and when and how it last began and ended.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// What `systemctl --user` calls the states of a service of which nothing runs.
const AT_REST: [&str; 3] = ["dead", "exited", "failed"];

/// A transient service that is to run a keeper.
pub(super) struct Service<'a> {
    pub(super) unit: &'a str,
    pub(super) description: &'a str,
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    pub(super) memory_max_bytes: Option<u64>,
}

/// The systemd user manager on a bus. Either may be restarted at any time: what is asked next connects again, and waits a
/// moment for the manager to be back.
#[derive(Clone, Debug)]
pub(super) struct Systemd {
    address: Address,
    bus: Arc<Mutex<Option<Connection>>>,
}

/// Whether this very process is the main one of a unit: `systemd.exec(5)`.
fn is_started_by_systemd() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

impl Systemd {
    /// The manager on the bus at that address, if there is one and it answers.
    pub(super) async fn at(address: Address) -> Option<Self> {
        let this = Self { address, bus: Arc::default() };
        match timeout(ANSWER, this.answers()).await {
            Ok(Ok(true)) => return Some(this),
            Ok(Ok(false)) => tracing::debug!("no systemd user manager is on the bus"),
            Ok(Err(error)) => tracing::warn!(error = &error as &dyn Error, "the systemd user manager cannot be used"),
            Err(_) => tracing::warn!("the systemd user manager does not answer"),
        }
        None
    }

    async fn answers(&self) -> zbus::Result<bool> {
        let bus = self.connected().await?;
        // Its bus is started by the first connection to it, and the manager itself joins after that.
        if is_started_by_systemd() {
            joined(&bus).await?;
        } else if !has_joined(&DBusProxy::new(&bus).await?).await? {
            return Ok(false);
        }
        manager_on(&bus).await?.version().await.map(|_| true)
    }

    async fn manager(&self) -> zbus::Result<ManagerProxy<'static>> {
        manager_on(&self.bus().await?).await
    }

    /// A connection to the bus, with the manager on it.
    async fn bus(&self) -> zbus::Result<Connection> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let failed = match timeout_at(deadline, self.reached()).await {
                Ok(Ok(bus)) => return Ok(bus),
                Ok(Err(error)) => error,
                Err(_) => zbus::Error::Failure(format!("it is not on the bus after {} s", ANSWER.as_secs())),
            };
            if Instant::now() + REDIAL >= deadline {
                return Err(failed);
            }
            sleep(REDIAL).await;
        }
    }

    async fn reached(&self) -> zbus::Result<Connection> {
        let bus = self.connected().await?;
        // Asked each time: it also shows whether the connection still works before anything is begun on it.
        joined(&bus).await?;
        Ok(bus)
    }

    /// The connection that there is, or a new one when it has broken.
    async fn connected(&self) -> zbus::Result<Connection> {
        let mut bus = self.bus.lock().await;
        if let Some(bus) = bus.as_ref().filter(|bus| !bus.is_closed()) {
            return Ok(bus.clone());
        }
        if bus.take().is_some() {
            tracing::info!("connecting again to the bus of the systemd user manager");
        }
        let fresh = connection::Builder::address(self.address.clone()).method_timeout(CALL).build().await?;
        Ok(bus.insert(fresh).clone())
    }

    /// Starts a service; returns when its main process has been executed.
    pub(super) async fn start(&self, service: &Service<'_>) -> Result<(), UnitError> {
        let failed = manager_error("start", service.unit);
        let manager = self.manager().await.map_err(&failed)?;
        // Before the call, or its job may be over before anybody listens.
        let jobs = manager.receive_job_removed_with_args(&[(2, service.unit)]).await.map_err(&failed)?;
        let argv = service.argv.clone();
        let program = argv.first().cloned().unwrap_or_default();
        let mut properties = vec![
            ("Description", Variant::from(service.description)),
            ("Slice", Variant::from(SLICE)),
            ("Type", Variant::from("exec")),
            // The plain `ExecStart` would replace `$` and what follows it in the arguments.
            ("ExecStartEx", Variant::from(vec![(program, argv, vec!["no-env-expand"])])),
            // The end of the keeper is told by its record; these keep the manager's word until it is collected.
            ("RemainAfterExit", Variant::from(true)),
            ("CollectMode", Variant::from("inactive")),
            // The keeper is asked to end, and takes the programs along; whatever is left after it is killed.
            ("KillMode", Variant::from("mixed")),
            ("TimeoutStopUSec", Variant::from(u64::try_from(STOP.as_micros() / 2).unwrap_or(u64::MAX))),
            // The keeper records what the kernel killed, and ends by itself.
            ("OOMPolicy", Variant::from("continue")),
            ("TasksMax", Variant::from(TASKS_MAX)),
            ("LimitCORE", Variant::from(0_u64)),
            ("StandardInput", Variant::from("null")),
            ("StandardOutput", Variant::from("null")),
            ("StandardError", Variant::from("null")),
        ];
        if let Some(bytes) = service.memory_max_bytes {
            properties.push(("MemoryMax", Variant::from(bytes)));
        }
        let job = manager.start_transient_unit(service.unit, "fail", &properties, &[]).await.map_err(&failed)?;
        match removed(jobs, &job).await.as_deref() {
            Some("done") => Ok(()),
            Some(result) => Err(UnitError::Keeper {
                name: service.unit.to_owned(),
                what: format!("could not be executed (the job ended as `{result}`)"),
            }),
            None => Err(failed(zbus::Error::Failure("it has left the bus".to_owned()))),
        }
    }

    /// How the main process of a unit ended, if it did and is still known.
    pub(super) async fn exit_status(&self, unit: &str) -> Result<Option<ExitStatus>, UnitError> {
        let failed = manager_error("look at", unit);
        let bus = self.bus().await.map_err(&failed)?;
        let manager = manager_on(&bus).await.map_err(&failed)?;
        let path = match manager.get_unit(unit).await {
            Ok(path) => path,
            Err(error) if is_unknown(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let service = ServiceProxy::builder(&bus).path(path).build().await.map_err(&failed)?;
        let (code, status) = (service.exec_main_code().await, service.exec_main_status().await);
        let status = status.map_err(&failed)?;
        Ok(match code.map_err(&failed)? {
            libc::CLD_EXITED => Some(ExitStatus::Code(status)),
            libc::CLD_KILLED | libc::CLD_DUMPED => Some(ExitStatus::Signal(status)),
            _ => None,
        })
    }

    /// Stops a unit, whatever it does, and makes the manager forget it.
    pub(super) async fn forget(&self, unit: &str) -> Result<(), UnitError> {
        let failed = manager_error("stop", unit);
        let manager = self.manager().await.map_err(&failed)?;
        let jobs = manager.receive_job_removed_with_args(&[(2, unit)]).await.map_err(&failed)?;
        match manager.stop_unit(unit, "replace").await {
            Ok(job) => {
                let stopped = timeout(STOP, removed(jobs, &job)).await;
                stopped.map_err(|_| UnitError::Timeout { name: unit.to_owned(), what: "stop", after: STOP })?;
            }
            Err(error) if is_unknown(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        match manager.reset_failed_unit(unit).await {
            Err(error) if !is_unknown(&error) => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// The services whose names begin so.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<HeldUnit>, UnitError> {
        let pattern = format!("{prefix}*.service");
        let failed = manager_error("list", &pattern);
        let bus = self.bus().await.map_err(&failed)?;
        let manager = manager_on(&bus).await.map_err(&failed)?;
        let units = manager.list_units_by_patterns(&[], &[&pattern]).await.map_err(&failed)?;
        let mut held = Vec::new();
        for unit in units {
            let (Some(name), state, path) = (unit.0.strip_suffix(".service"), unit.4, unit.6) else { continue };
            let runs = !AT_REST.contains(&state.as_str());
            // The keeper of one that runs says it itself.
            let runtime_dir = if runs { None } else { runtime_dir(&bus, path).await };
            held.push(HeldUnit { name: name.to_owned(), runs, runtime_dir });
        }
        Ok(held)
    }
}

async fn manager_on(bus: &Connection) -> zbus::Result<ManagerProxy<'static>> {
    ManagerProxy::builder(bus).cache_properties(proxy::CacheProperties::No).build().await
}

/// Waits for the manager to be on a bus. It is asked for rather than called: to call a name that nobody has could make the
/// bus start somebody.
async fn joined(bus: &Connection) -> zbus::Result<()> {
    let proxy = DBusProxy::new(bus).await?;
    if has_joined(&proxy).await? {
        return Ok(());
    }
    let mut joins = proxy.receive_name_owner_changed_with_args(&[(0, BUS_NAME)]).await?;
    if has_joined(&proxy).await? {
        return Ok(());
    }
    let joined = joins.next().await;
    joined.map(drop).ok_or_else(|| zbus::Error::Failure("the bus is gone".to_owned()))
}

async fn has_joined(bus: &DBusProxy<'_>) -> zbus::Result<bool> {
    Ok(bus.name_has_owner(BusName::from(WellKnownName::from_static_str(BUS_NAME)?)).await?)
}

/// The result of a job that is over; none when the bus went away before.
async fn removed(mut jobs: JobRemovedStream, job: &OwnedObjectPath) -> Option<String> {
    while let Some(signal) = jobs.next().await {
        if let Ok(arguments) = signal.args()
            && arguments.job == *job
        {
            return Some(arguments.result);
        }
    }
    None
}

/// Whether the manager says that it has no such unit.
fn is_unknown(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit")
}

/// Whether the manager says that it has such a unit already.
pub(super) fn is_taken(error: &UnitError) -> bool {
    let UnitError::Manager { source, .. } = error else { return false };
    matches!(&**source, zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.UnitExists")
}

fn manager_error(action: &'static str, name: &str) -> impl Fn(zbus::Error) -> UnitError {
    let name = name.to_owned();
    move |source| UnitError::Manager { action, name: name.clone(), source: Box::new(source) }
}

/// The runtime folder in the command line of a unit's keeper; none when the unit is no more, or has another one.
async fn runtime_dir(bus: &Connection, unit: OwnedObjectPath) -> Option<PathBuf> {
    let service = ServiceProxy::builder(bus).path(unit).build().await.ok()?;
    let (_, argv, ..) = service.exec_start().await.ok()?.into_iter().next()?;
    let [_, _, runtime_dir] = <[String; 3]>::try_from(argv).ok()?;
    Some(runtime_dir.into())
}

/// The command line of a keeper as the manager takes it: text.
pub(super) fn argv(shim: &Path, name: &str, runtime_dir: &Path) -> Option<Vec<String>> {
    Some(vec![shim.to_str()?.to_owned(), name.to_owned(), runtime_dir.to_str()?.to_owned()])
}
