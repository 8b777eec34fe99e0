//! Firecracker's hybrid vsock, as seen from the host: `CONNECT <port>\n` is answered with `OK <host port>\n`, and what
//! follows on the same Unix socket is the stream. Source: `docs/vsock.md` of Firecracker; `vhost-device-vsock` speaks
//! the same.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::VsockError;

/// The longest answer, without its newline: `OK ` and a port of ten digits.
const MAX_ANSWER: usize = 13;

pub(super) async fn connect(mut stream: UnixStream, port: u32) -> Result<UnixStream, VsockError> {
    let proxy = |source| VsockError::Proxy { port, source };
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await.map_err(proxy)?;

    // The guest's first bytes may follow the newline at once: whatever is read beyond it would be lost.
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    loop {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            // Both proxies close without a word when the guest refuses.
            Ok(0) if answer.is_empty() => return Err(VsockError::Refused { port }),
            Ok(0) => return Err(protocol(port, &answer)),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if answer.len() == MAX_ANSWER => return Err(protocol(port, &answer)),
            Ok(_) => answer.extend_from_slice(&byte),
            Err(error) if answer.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Err(VsockError::Refused { port });
            }
            Err(source) => return Err(proxy(source)),
        }
    }
    let assigned = answer.strip_prefix(b"OK ").and_then(|digits| str::from_utf8(digits).ok());
    match assigned.map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        _ => Err(protocol(port, &answer)),
    }
}

fn protocol(port: u32, answer: &[u8]) -> VsockError {
    VsockError::Protocol { port, answer: answer.escape_ascii().to_string() }
}
