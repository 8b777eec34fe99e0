//! One attempt to start a unit, and how it is undone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use nexus_model::{ProcessIdentity, failpoint};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};

use super::{
    InvalidLaunch, Keeper, Started, UnitError, UnitSpec,
    keeper::{gone, process_error, unit_name, watch},
    record::{MESSAGE_MAX_BYTES, Records, START_SOCKET, StartAnswer, StartRequest},
    systemd::{self, Service, Systemd},
};
use crate::process::{Signal, identify};

/// How long a keeper may take to call back after it was executed.
const CALL: Duration = Duration::from_secs(10);
/// How long it may take to start its programs: it bounds each of its own steps.
const START: Duration = Duration::from_secs(60);

/// One attempt to start a unit.
pub(super) struct Attempt<'a> {
    keeper: &'a Keeper,
    spec: &'a UnitSpec,
    socket: OnceLock<StartSocket>,
    /// The process that forks a detached keeper.
    forking: OnceLock<Mutex<Child>>,
    /// The keeper's process, once it has called.
    process: OnceLock<ProcessIdentity>,
}

impl<'a> Attempt<'a> {
    pub(super) const fn new(keeper: &'a Keeper, spec: &'a UnitSpec) -> Self {
        Self { keeper, spec, socket: OnceLock::new(), forking: OnceLock::new(), process: OnceLock::new() }
    }

    /// Starts the keeper and lets it start the rest. Can be dropped at any time; [`Attempt::undo`] then cleans up.
    pub(super) async fn run(&self) -> Result<Started, UnitError> {
        let name = &self.spec.name;
        let socket = StartSocket::listen(&self.spec.runtime_dir)?;
        let socket = self.socket.get_or_init(|| socket);
        failpoint("unit.listening");
        // The call may come before systemd says that it was executed.
        let both = async { tokio::try_join!(self.called(socket), self.execute()) };
        let (stream, ()) = timeout(CALL, both).await.map_err(|_| self.keeper_error("did not call back"))??;
        failpoint("unit.called");
        let answer = timeout(START, self.converse(stream)).await;
        failpoint("unit.answered");
        let answer = answer.map_err(|_| UnitError::Timeout { name: name.clone(), what: "start", after: START })??;
        match answer {
            Ok(record) => Ok(record.into()),
            Err(source) => Err(UnitError::Start { name: name.clone(), source }),
        }
    }

    /// Waits for the keeper's call.
    async fn called(&self, socket: &StartSocket) -> Result<UnixStream, UnitError> {
        let stream = socket.accept().await?;
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
        // It waits for the launch, so it can't have ended and its pid be another's, unless somebody killed it.
        let process = process.map_or(Ok(None), identify).map_err(process_error(&self.spec.name))?;
        let _ = self.process.set(process.ok_or_else(|| self.keeper_error("ended at once"))?);
        Ok(stream)
    }

    /// Executes the keeper.
    async fn execute(&self) -> Result<(), UnitError> {
        match &self.keeper.manager {
            Some(manager) => self.execute_by(manager).await,
            None => self.execute_detached().await,
        }
    }

    async fn execute_by(&self, manager: &Systemd) -> Result<(), UnitError> {
        let name = &self.spec.name;
        let argv = systemd::argv(&self.keeper.shim, name, &self.spec.runtime_dir)
            .ok_or_else(|| UnitError::Invalid { name: name.clone(), source: InvalidLaunch::Encoding })?;
        let unit = unit_name(name);
        let service = Service {
            unit: &unit,
            description: &self.spec.description,
            argv,
            memory_max_bytes: self.spec.memory_max_bytes,
        };
        match manager.start(&service).await {
            // Of an earlier start that nobody waited for. It has no record, so nobody knows of it.
            Err(error) if systemd::is_taken(&error) => {
                manager.forget(&unit).await?;
                manager.start(&service).await
            }
            result => result,
        }
    }

    async fn execute_detached(&self) -> Result<(), UnitError> {
        let shim = &self.keeper.shim;
        let mut command = Command::new(shim);
        command.arg("--detach").arg(&self.spec.name).arg(&self.spec.runtime_dir);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let failed = |source| UnitError::File { action: "execute", path: shim.clone(), source };
        let forking = Mutex::new(command.spawn().map_err(&failed)?);
        let status = self.forking.get_or_init(|| forking).lock().await.wait().await.map_err(failed)?;
        if status.success() { Ok(()) } else { Err(self.keeper_error("did not fork")) }
    }

    /// Tells the keeper what to start, and hears how it went.
    async fn converse(&self, mut stream: UnixStream) -> Result<StartAnswer, UnitError> {
        let name = &self.spec.name;
        let unit = if self.keeper.manager.is_some() { unit_name(name) } else { String::new() };
        let request = StartRequest { unit, launch: self.spec.launch.clone() };
        let mut line = serde_json::to_vec(&request)
            .map_err(|_| UnitError::Invalid { name: name.clone(), source: InvalidLaunch::Encoding })?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(|_| self.keeper_error("ended before it was told what to start"))?;
        let mut answer = Vec::new();
        let read = BufReader::new(&mut stream).take(MESSAGE_MAX_BYTES).read_until(b'\n', &mut answer).await;
        match read {
            Ok(_) if answer.ends_with(b"\n") => {
                serde_json::from_slice(&answer).map_err(|_| self.keeper_error("is of another version"))
            }
            _ => Err(self.keeper_error("ended while it was starting")),
        }
    }

    /// Leaves nothing of the attempt, however far it came. [`Attempt::run`] must be over or dropped, so the keeper has been
    /// hung up on.
    pub(super) async fn undo(&self) {
        if let Err(error) = self.try_undo().await {
            tracing::warn!(unit = self.spec.name, error = &error as &dyn std::error::Error, "a start was not undone");
        }
    }

    async fn try_undo(&self) -> Result<(), UnitError> {
        let name = &self.spec.name;
        if let (Some(forking), Some(socket)) = (self.forking.get(), self.socket.get()) {
            // Until it has ended there may be a keeper that nobody knows yet.
            let forked = forking.lock().await.wait().await.is_ok_and(|status| status.success());
            // It is about to call, and ends when it is hung up on; when it does not call it has ended.
            if forked
                && self.process.get().is_none()
                && let Ok(called) = timeout(CALL, self.called(socket)).await
            {
                drop(called?);
            }
        }
        let records = self.keeper.open(&self.spec.runtime_dir)?;
        if let Some(keeper) = self.process.get()
            && let Some(keeper) = watch(name, keeper)?
        {
            let process = records.as_ref().and_then(|records| Some((records, records.process().ok()??)));
            if let Some((records, process)) = process {
                // It had started all, and would go on without us.
                self.keeper.kill_recorded(name, records, &process).await?;
            } else if !gone(name, &keeper).await? {
                keeper.signal(Signal::SIGKILL).map_err(process_error(name))?;
                gone(name, &keeper).await?;
            }
        }
        if let Some(manager) = &self.keeper.manager {
            manager.forget(&unit_name(name)).await?;
        }
        records.as_ref().map_or(Ok(()), Records::remove).map_err(|source| UnitError::File {
            action: "remove the records in",
            path: self.spec.runtime_dir.clone(),
            source,
        })
    }

    fn keeper_error(&self, what: &str) -> UnitError {
        UnitError::Keeper { name: self.spec.name.clone(), what: what.to_owned() }
    }
}

/// The socket on which a keeper calls, for as long as that is awaited.
struct StartSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StartSocket {
    fn listen(runtime_dir: &Path) -> Result<Self, UnitError> {
        let path = runtime_dir.join(START_SOCKET);
        let failed = |action| {
            let path = path.clone();
            move |source| UnitError::File { action, path, source }
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove")(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed("listen on"))?;
        let this = Self { listener, path: path.clone() };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
        Ok(this)
    }

    async fn accept(&self) -> Result<UnixStream, UnitError> {
        let accepted = self.listener.accept().await;
        accepted.map(|(stream, _)| stream).map_err(|source| UnitError::File {
            action: "accept on",
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for StartSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
