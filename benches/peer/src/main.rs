//! nexus-bench-peer: listens in a guest, and serves each connection in a thread of its own, until it is killed.

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::ExitCode,
    thread,
};

use nexus_bench_peer::serve;
use vsock::{VMADDR_CID_ANY, VsockListener};

fn main() -> ExitCode {
    let argument = env::args().nth(1).unwrap_or_default();
    let outcome = match argument.split_once(':') {
        Some(("vsock", port)) => on_vsock(port),
        Some(("unix", path)) => on_unix(path),
        _ => Err(io::Error::other("Usage: nexus-bench-peer vsock:PORT | unix:PATH")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "nexus-bench-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn on_vsock(port: &str) -> io::Result<()> {
    let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
    listen(|| Ok(listener.accept()?.0))
}

fn on_unix(path: &str) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    listen(|| Ok(listener.accept()?.0))
}

/// Says that it listens, and does.
fn listen<S: Into<OwnedFd>>(accept: impl Fn() -> io::Result<S>) -> io::Result<()> {
    io::stdout().write_all(b"listening\n")?;
    loop {
        let connection: OwnedFd = accept()?.into();
        thread::spawn(move || serve(File::from(connection)));
    }
}
