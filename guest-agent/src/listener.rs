//! Where the host connects.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use nexus_protocol::{BULK_PORT, CONTROL_PORT, STREAM_PORT, TOOLS_PORT};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener};

use crate::{agent::Agent, files, log::say, mcp, session, stdio, stream::Stream, terminal};

/// As many connections are served at a time; the rest waits. 256 commands have three streams each, 100 terminals 16 viewers,
/// MCP has 32, copies are 16, control connections as many, and 32 are spare; and each of 104 ports has one that it waits for.
pub(crate) const MAX_CONNECTIONS: usize = 2600;

/// How long a host has to say what it wants. A stream's has as long again for the rest once it has begun to.
pub(crate) const OPENING_DEADLINE: Duration = Duration::from_secs(10);

/// The longest line that a hybrid client sends: `CONNECT ` and a port of ten digits.
const MAX_HYBRID_LINE: usize = 18;

/// Serves the ports of every agent on vsock for ever. A kernel without vsock may get it later, from a module.
pub(crate) async fn serve_vsock(agent: Rc<Agent>) {
    let mut pause = Duration::from_millis(10);
    let listeners = loop {
        let bind = |port| VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port));
        match bind(CONTROL_PORT)
            .and_then(|control| Ok((control, bind(STREAM_PORT)?, bind(TOOLS_PORT)?, bind(BULK_PORT)?)))
        {
            Ok(listeners) => break listeners,
            Err(error) => {
                say!("cannot listen on vsock, trying again in {} ms: {error}", pause.as_millis());
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    };
    agent.terminals.prepare(&agent);
    tokio::join!(
        accept_vsock(&listeners.0, CONTROL_PORT, &agent),
        accept_vsock(&listeners.1, STREAM_PORT, &agent),
        accept_vsock(&listeners.2, TOOLS_PORT, &agent),
        accept_vsock(&listeners.3, BULK_PORT, &agent)
    );
}

/// Serves one port for ever.
pub(crate) async fn accept_vsock(listener: &VsockListener, port: u32, agent: &Rc<Agent>) {
    loop {
        let Ok(permit) = Arc::clone(&agent.connections).acquire_owned().await else { return };
        match listener.accept().await {
            // Anybody in the guest can connect over the loopback transport: only the host may.
            Ok((stream, peer)) if peer.cid() == VMADDR_CID_HOST => {
                let agent = Rc::clone(agent);
                spawn_local(async move {
                    serve(Stream::Vsock(stream), port, agent).await;
                    drop(permit);
                });
            }
            Ok(_) => {}
            Err(error) => {
                say!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The Unix socket of a mere process, which speaks Firecracker's hybrid protocol: `CONNECT <port>\n` is answered with
/// `OK <number>\n`.
#[derive(Debug)]
pub(crate) struct HybridListener {
    listener: UnixListener,
    socket: PathBuf,
}

impl HybridListener {
    /// Makes `folder` if need be, and the socket in it, both for this user alone. A socket that nobody listens on any
    /// more is replaced.
    pub(crate) fn bind(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let socket = folder.join("vsock.sock");
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => fs::remove_file(&socket)?,
        }
        let open_mask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let listener = UnixListener::bind(&socket);
        rustix::process::umask(open_mask);
        Ok(Self { listener: listener?, socket })
    }

    /// Serves all ports for ever.
    pub(crate) async fn serve(self, agent: Rc<Agent>) {
        let mut number: u32 = 1024;
        agent.terminals.prepare(&agent);
        loop {
            let Ok(permit) = Arc::clone(&agent.connections).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((mut stream, _)) => {
                    number = number.wrapping_add(1);
                    let agent = Rc::clone(&agent);
                    spawn_local(async move {
                        if let Ok(Ok(port)) =
                            timeout(OPENING_DEADLINE, hybrid_handshake(&mut stream, number, &agent)).await
                        {
                            serve(Stream::Unix(stream), port, agent).await;
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    say!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

impl Drop for HybridListener {
    fn drop(&mut self) {
        // Whoever started the process removes the folder anyway.
        let _ = fs::remove_file(&self.socket);
    }
}

async fn hybrid_handshake(stream: &mut UnixStream, number: u32, agent: &Agent) -> io::Result<u32> {
    let mut line = Vec::with_capacity(MAX_HYBRID_LINE);
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            _ if line.len() == MAX_HYBRID_LINE => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
    let port = str::from_utf8(&line).ok().and_then(|line| line.strip_prefix("CONNECT ")).map(str::parse);
    match port {
        Some(Ok(port))
            if matches!(port, CONTROL_PORT | STREAM_PORT | TOOLS_PORT | BULK_PORT)
                || agent.terminals.has_port(port) =>
        {
            stream.write_all(format!("OK {number}\n").as_bytes()).await?;
            Ok(port)
        }
        // A proxy closes without a word when nobody listens on the port.
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

async fn serve(stream: Stream, port: u32, agent: Rc<Agent>) {
    match port {
        CONTROL_PORT => session::serve(stream, agent).await,
        STREAM_PORT => stdio::serve(stream, &agent).await,
        TOOLS_PORT => mcp::serve(stream, agent).await,
        BULK_PORT => files::copy(stream, agent).await,
        _ => terminal::serve(stream, port, &agent).await,
    }
}
