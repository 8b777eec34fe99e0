//! `org.workfort.Nexus1.Guest`.

use std::{collections::BTreeMap, fs::File, io, time::Duration};

use nexus_actors::{
    GuestCommand, GuestCopyIn, GuestFile, GuestShell, GuestStreams, Origin,
    snapshot::{GuestSnapshot, VmSnapshot},
};
use nexus_model::{ErrorKind, ExitStatus, Name};
use zbus::{Connection, OwnedFd, OwnedVariant, Str, interface, message::Header};

use super::{
    bond::departure,
    call::{Call, DEADLINE},
    options::{Dict, Options, nothing},
    picture::Picture,
    served::Served,
};
use crate::Error;

/// How long `Run` lets a command run whose caller did not say: less than the time after which most clients stop waiting.
const RUN_TIMEOUT: Duration = DEADLINE;
/// How long the end of a command that was killed at its timeout may take to be known.
const GRACE: Duration = Duration::from_secs(4);

/// The inside of a virtual machine.
#[derive(Debug)]
pub(super) struct Guest {
    engine: Served,
    vm: Name,
    picture: Picture<VmSnapshot>,
}

impl Guest {
    pub(super) const fn new(engine: Served, vm: Name, picture: Picture<VmSnapshot>) -> Self {
        Self { engine, vm, picture }
    }

    fn call<'a>(&'a self, bus: &'a Connection, header: &Header<'_>) -> Call<'a> {
        Call::new(&self.engine, bus, header).about_vm(&self.vm)
    }

    /// What `read` finds; the default once the agent is gone and this interface about to be.
    fn say<T: Default>(&self, read: impl FnOnce(&GuestSnapshot) -> T) -> T {
        self.picture.get().guest.as_ref().map(read).unwrap_or_default()
    }
}

/// Decodes the options of a command that may have streams; whether it has none.
fn command_or_detached(options: &mut Options, argv: Vec<String>) -> Result<(GuestCommand, bool), Error> {
    let detached = options.take("detach")?.unwrap_or(false);
    Ok((command(options, argv)?, detached))
}

/// The streams of a command that has none.
fn no_streams(exec: u64) -> Result<GuestStreams, Error> {
    let null = || File::options().read(true).write(true).open("/dev/null").map(std::os::fd::OwnedFd::from);
    let streams = || Ok::<_, io::Error>(GuestStreams { exec, stdin: null()?, stdout: null()?, stderr: null()? });
    streams().map_err(|error| Error::new(ErrorKind::ResourcesExhausted, format!("cannot open /dev/null: {error}")))
}

/// Decodes the options of a command.
fn command(options: &mut Options, argv: Vec<String>) -> Result<GuestCommand, Error> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(Error::invalid_args("`argv` must begin with a program"));
    }
    command_or_shell(options, argv)
}

/// Decodes the options of a command, which may be none.
fn command_or_shell(options: &mut Options, argv: Vec<String>) -> Result<GuestCommand, Error> {
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid_args("`argv` can't hold a NUL"));
    }
    Ok(GuestCommand {
        argv,
        env: options.take::<BTreeMap<String, String>>("env")?.unwrap_or_default(),
        working_directory: options.take("working-directory")?,
        user: options.take("user")?,
        timeout: options.duration("timeout-usec")?,
    })
}

/// Decodes the options of a file that is to be written.
fn file(options: &mut Options, path: String, content: Vec<u8>) -> Result<GuestFile, Error> {
    let mode: Option<u32> = options.take("mode")?;
    if mode.is_some_and(|mode| mode > 0o7777) {
        return Err(Error::invalid_args("`mode` has bits that are no permissions"));
    }
    Ok(GuestFile {
        path,
        content,
        mode,
        owner: options.take("owner")?,
        append: options.take("append")?.unwrap_or(false),
        create_folders: options.take("create-folders")?.unwrap_or(false),
    })
}

/// Decodes the options of a terminal.
fn shell(options: &mut Options, argv: Vec<String>) -> Result<GuestShell, Error> {
    if argv.first().is_some_and(String::is_empty) {
        return Err(Error::invalid_args("`argv` must begin with a program, or be empty"));
    }
    let mut command = command_or_shell(options, argv)?;
    if let Some(term) = options.take::<String>("term")? {
        command.env.insert("TERM".to_owned(), term);
    }
    let name: Option<String> = options.take("name")?;
    let size = match (options.take("columns")?, options.take("rows")?) {
        (Some(columns), Some(rows)) => Some((columns, rows)),
        (None, None) => None,
        _ => return Err(Error::invalid_args("`columns` and `rows` go together")),
    };
    Ok(GuestShell { command, name, size, read_only: options.take("read-only")?.unwrap_or(false) })
}

/// As a string of D-Bus. It can't hold a NUL: the bus hangs up on who sends one.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

/// What `work` finds out for a caller who may leave before.
async fn for_caller<T>(
    bus: &Connection,
    origin: &Origin,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        outcome = work => outcome,
        () = departure(bus, origin) => Err(Error::new(ErrorKind::Cancelled, "the caller has left the bus")),
    }
}

fn silent() -> Error {
    Error::new(ErrorKind::GuestUnavailable, "the guest agent did not say how the command ended: look at the VM's log")
}

const fn signal(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Signal(signal) => signal,
        ExitStatus::Code(_) | ExitStatus::Unknown => 0,
    }
}

#[interface(name = "org.workfort.Nexus1.Guest", introspection_docs = false)]
impl Guest {
    #[zbus(out_args("exit_code", "stdout", "stderr", "truncated"))]
    async fn run(
        &self,
        argv: Vec<String>,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(i32, String, String, bool), Error> {
        let call = self.call(bus, &header).argument("argv", argv.clone()).deadline(None);
        let run = |origin, mut command: GuestCommand| async move {
            let timeout = *command.timeout.get_or_insert(RUN_TIMEOUT);
            let run = self.engine.guest_run(&origin, &self.vm, command);
            let run = tokio::time::timeout(timeout.saturating_add(GRACE), run);
            for_caller(bus, &origin, async { run.await.map_err(|_| silent())?.map_err(Error::from) }).await
        };
        let outcome = call.change(options, |options| command(options, argv), run).await?;
        Ok((outcome.status.shell_code(), text(&outcome.stdout), text(&outcome.stderr), outcome.truncated))
    }

    #[zbus(out_args("id", "stdin", "stdout", "stderr"))]
    async fn exec(
        &self,
        argv: Vec<String>,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(u64, OwnedFd, OwnedFd, OwnedFd), Error> {
        let exec = |origin, (command, detached)| async move {
            if detached {
                no_streams(self.engine.guest_detach(&origin, &self.vm, command).await?)
            } else {
                Ok(self.engine.guest_exec(&origin, &self.vm, command).await?)
            }
        };
        let call = self.call(bus, &header).argument("argv", argv.clone());
        let streams = call.change(options, |options| command_or_detached(options, argv), exec).await?;
        Ok((streams.exec, streams.stdin.into(), streams.stdout.into(), streams.stderr.into()))
    }

    #[zbus(out_args("id", "stream"))]
    async fn open_shell(
        &self,
        argv: Vec<String>,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(u64, OwnedFd), Error> {
        let open = |origin, shell| async move { self.engine.guest_open_shell(&origin, &self.vm, shell).await };
        let call = self.call(bus, &header).argument("argv", argv.clone());
        let terminal = call.change(options, |options| shell(options, argv), open).await?;
        Ok((terminal.exec, terminal.stream.into()))
    }

    async fn resize_exec(
        &self,
        id: u64,
        columns: u32,
        rows: u32,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        // Each of the many sizes of a window that is dragged would be a line of the audit.
        self.call(bus, &header).query(self.engine.guest_resize_exec(&self.vm, id, columns, rows)).await
    }

    #[zbus(out_args("shells"))]
    async fn list_shells(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(u64, String, u32, u32, u32)>, Error> {
        let shells = self.call(bus, &header).query(self.engine.guest_list_shells(&self.vm)).await?;
        Ok(shells.into_iter().map(|shell| (shell.exec, shell.name, shell.columns, shell.rows, shell.viewers)).collect())
    }

    #[zbus(out_args("exit_code", "signal"))]
    async fn wait_exec(
        &self,
        id: u64,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(i32, i32), Error> {
        let call = self.call(bus, &header).deadline(None);
        let origin = call.origin();
        let wait = async { self.engine.guest_wait_exec(&self.vm, id).await.map_err(Error::from) };
        let status = call.query(for_caller(bus, &origin, wait)).await?;
        Ok((status.shell_code(), signal(status)))
    }

    async fn signal_exec(
        &self,
        id: u64,
        signal: i32,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let send = |_, ()| async move { self.engine.guest_signal_exec(&self.vm, id, signal).await };
        let call = self.call(bus, &header).argument("id", id).argument("signal", signal);
        call.change(Dict::new(), nothing, send).await
    }

    #[zbus(out_args("execs"))]
    async fn list_execs(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(u64, Vec<String>)>, Error> {
        self.call(bus, &header).query(self.engine.guest_list_execs(&self.vm)).await
    }

    #[zbus(out_args("stream"))]
    async fn open_tools(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, Error> {
        let open = |origin, ()| async move { self.engine.guest_open_tools(&origin, &self.vm).await };
        self.call(bus, &header).change(options, nothing, open).await.map(OwnedFd::from)
    }

    #[zbus(out_args("data", "truncated"))]
    async fn read_file(
        &self,
        path: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(Vec<u8>, bool), Error> {
        let offset = |options: &mut Options| Ok(options.take("offset")?.unwrap_or(0));
        let read = |offset| async move { self.engine.guest_read_file(&self.vm, &path, offset).await };
        self.call(bus, &header).query_with(options, offset, read).await
    }

    async fn write_file(
        &self,
        path: String,
        data: Vec<u8>,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let write = |origin, file| async move { self.engine.guest_write_file(&origin, &self.vm, file).await };
        let call = self.call(bus, &header).argument("path", path.clone());
        call.change(options, |options| file(options, path, data), write).await
    }

    async fn delete_file(
        &self,
        path: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let call = self.call(bus, &header).argument("path", path.clone());
        let recursive = |options: &mut Options| Ok(options.take("recursive")?.unwrap_or(false));
        let delete =
            |origin, recursive| async move { self.engine.guest_delete_file(&origin, &self.vm, &path, recursive).await };
        call.change(options, recursive, delete).await
    }

    #[zbus(out_args("stream"))]
    async fn copy_in(
        &self,
        path: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, Error> {
        let call = self.call(bus, &header).argument("path", path.clone());
        let decode = |options: &mut Options| {
            let replace = options.take("replace")?.unwrap_or(false);
            Ok(GuestCopyIn { path, name: options.take("name")?, replace })
        };
        let open = |origin, copy| async move { self.engine.guest_copy_in(&origin, &self.vm, copy).await };
        call.change(options, decode, open).await.map(OwnedFd::from)
    }

    #[zbus(out_args("stream"))]
    async fn copy_out(
        &self,
        path: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, Error> {
        let call = self.call(bus, &header).argument("path", path.clone());
        let open = |origin, ()| async move { self.engine.guest_copy_out(&origin, &self.vm, path).await };
        call.change(options, nothing, open).await.map(OwnedFd::from)
    }

    #[zbus(out_args("metadata"))]
    fn get_image_metadata(&self) -> Dict {
        let owned = |(key, value): (&String, &String)| (key.clone(), OwnedVariant::from(Str::from(value.clone())));
        self.say(|guest| guest.image_metadata.iter().map(owned).collect())
    }

    #[zbus(property)]
    fn agent_version(&self) -> String {
        self.say(|guest| guest.agent_version.clone())
    }

    #[zbus(property)]
    fn protocol_revision(&self) -> u32 {
        self.say(|guest| guest.protocol_revision)
    }

    #[zbus(property)]
    fn hostname(&self) -> String {
        self.say(|guest| guest.hostname.clone())
    }

    #[zbus(property)]
    fn addresses(&self) -> Vec<String> {
        self.say(|guest| guest.addresses.clone())
    }

    #[zbus(property)]
    fn boot_id(&self) -> String {
        self.say(|guest| guest.boot_id.clone())
    }

    #[zbus(property)]
    fn os_name(&self) -> String {
        self.say(|guest| guest.os_name.clone())
    }

    #[zbus(property)]
    fn os_version(&self) -> String {
        self.say(|guest| guest.os_version.clone())
    }

    #[zbus(property)]
    fn features(&self) -> Vec<String> {
        self.say(|guest| guest.features.clone())
    }

    #[zbus(property)]
    fn connected_at(&self) -> u64 {
        self.say(|guest| guest.connected_at.0)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn last_heartbeat_at(&self) -> u64 {
        match self.picture {
            Picture::Live(_) => self.engine.last_heartbeat(&self.vm).0,
            // Nothing that is compared may differ by it.
            Picture::Still(_) => 0,
        }
    }
}
