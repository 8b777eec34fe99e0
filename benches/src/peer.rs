//! Bare connections into a VM: to a program of the bench's that runs there, past Nexus.

use std::{
    fs::File,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
};

use nexus_bench_peer::{Request, read_line};
use nexus_dbus::client::{GuestProxy, Options};
use nexus_host::vsock::Endpoint;
use zbus::OwnedFd;

use crate::{Outcome, blocking, session::Session};

/// The program's name.
const PROGRAM: &str = "nexus-bench-peer";
/// The vsock port that it listens on. The agent has none above 399.
const PORT: u32 = 1000;

/// How the peer is reached.
enum Way {
    /// Through the VM's vsock device.
    Vsock(Endpoint),
    /// A `process` VM has none: its commands are processes of the host.
    Unix(PathBuf),
}

/// The peer. It goes with this.
pub(crate) struct Peer {
    way: Way,
    _streams: [OwnedFd; 3],
}

impl Peer {
    /// Runs it in a `process` VM.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start_in_process(session: &Session, guest: &GuestProxy<'_>, name: &str) -> Outcome<Self> {
        let socket = session.folder().join(format!("{name}.peer"));
        let program = session.folder().join("bin").join(PROGRAM);
        let program = program.to_str().ok_or("the session's folder is not UTF-8")?;
        let address = format!("unix:{}", socket.display());
        Ok(Self { _streams: listen(guest, &[program, &address]).await?, way: Way::Unix(socket) })
    }

    /// Copies it into a VM with a device, and runs it there.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start_behind(
        session: &Session,
        guest: &GuestProxy<'_>,
        name: &str,
        endpoint: Endpoint,
    ) -> Outcome<Self> {
        let mut copy = session.command("nexusctl");
        copy.arg("cp").arg(session.folder().join("bin").join(PROGRAM)).arg(format!("{name}:/root/"));
        blocking::succeed(copy).await?;
        let streams = listen(guest, &[&format!("/root/{PROGRAM}"), &format!("vsock:{PORT}")]).await?;
        Ok(Self { _streams: streams, way: Way::Vsock(endpoint) })
    }

    /// Connects, and asks for something. The connection is in blocking mode.
    ///
    /// # Errors
    /// When it is not reached.
    pub(crate) async fn ask(&self, request: Request) -> Outcome<File> {
        let connection = match &self.way {
            Way::Vsock(endpoint) => endpoint.connect(PORT).await?.into_fd()?,
            Way::Unix(socket) => UnixStream::connect(socket)?.into(),
        };
        let mut connection = File::from(connection);
        request.write(&mut connection)?;
        Ok(connection)
    }

    /// Has a program run without input, to its end.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn run(&self, argv: &[&str]) -> Outcome<()> {
        let connection = self.ask(Request::run(argv)).await?;
        blocking::run(move || blocking::done(&connection)).await
    }
}

/// Runs it, and returns once it listens.
async fn listen(guest: &GuestProxy<'_>, argv: &[&str]) -> Outcome<[OwnedFd; 3]> {
    let (_, stdin, stdout, stderr) = guest.exec(argv, Options::new()).await?;
    let output = File::from(stdout.as_fd().try_clone_to_owned()?);
    let said = blocking::run(move || read_line(&mut &output)).await?;
    if said == "listening" { Ok([stdin, stdout, stderr]) } else { Err("the peer does not listen".into()) }
}
