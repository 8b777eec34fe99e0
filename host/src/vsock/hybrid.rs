//! Firecracker's hybrid vsock, as seen from the host: `CONNECT <port>\n` is answered with `OK <host port>\n`, and what
//! follows on the same Unix socket is the stream. Source: `docs/vsock.md` of Firecracker; `vhost-device-vsock` speaks
//! the same.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::VsockError;

/// The longest answer, without its newline: `OK ` and a port of ten digits.
const MAX_ANSWER: usize = 13;

pub(super) async fn connect(mut stream: UnixStream, port: u32) -> Result<UnixStream, VsockError> {
    let request = format!("CONNECT {port}\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| broken(port, error))?;

    // The guest's first bytes may follow the newline at once: whatever is read beyond it would be lost.
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    loop {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(0) if answer.is_empty() => return Err(VsockError::Refused { port }),
            Ok(0) => return Err(protocol(port, &answer)),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if answer.len() == MAX_ANSWER => return Err(protocol(port, &answer)),
            Ok(_) => answer.extend_from_slice(&byte),
            Err(error) => return Err(broken(port, error)),
        }
    }
    let assigned = answer.strip_prefix(b"OK ").and_then(|digits| str::from_utf8(digits).ok());
    match assigned.map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        _ => Err(protocol(port, &answer)),
    }
}

/// Both proxies close without a word when the guest refuses, or has no driver yet: as early as before the request.
fn broken(port: u32, error: io::Error) -> VsockError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => VsockError::Refused { port },
        _ => VsockError::Proxy { port, source: error },
    }
}

fn protocol(port: u32, answer: &[u8]) -> VsockError {
    VsockError::Protocol { port, answer: answer.escape_ascii().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a proxy that reads the request and then says this, one part after the other, and closes.
    async fn answered(parts: &'static [&'static [u8]]) -> Result<UnixStream, VsockError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let proxy = tokio::spawn(async move {
            let mut request = [0; 12];
            theirs.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"CONNECT 100\n");
            for part in parts {
                theirs.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let result = connect(ours, 100).await;
        proxy.await.unwrap();
        result
    }

    #[tokio::test]
    async fn bytes_that_follow_the_answer_belong_to_the_stream() {
        const GOOD: [&[&[u8]]; 2] = [&[b"OK 1073741824\nhello"], &[b"O", b"K 5", b"\nhel", b"lo"]];
        for parts in GOOD {
            let mut text = String::new();
            answered(parts).await.unwrap().read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_closes_has_nobody_behind_the_port() {
        assert!(matches!(answered(&[]).await, Err(VsockError::Refused { port: 100 })));
        // As early as before the request: writing it fails, or reading the answer does.
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(matches!(connect(ours, 100).await, Err(VsockError::Refused { port: 100 })));
    }

    #[tokio::test]
    async fn anything_else_is_not_the_protocol() {
        const BAD: [&[&[u8]]; 7] =
            [&[b"OK"], &[b"OK 1"], &[b"\n"], &[b"OK \n"], &[b"OK x\n"], &[b"\xff\n"], &[b"OK 99999999999999999999"]];
        for parts in BAD {
            assert!(matches!(answered(parts).await, Err(VsockError::Protocol { .. })), "{parts:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let proxy = tokio::spawn(async move { while theirs.write_all(&[b'x'; 4096]).await.is_ok() {} });
        let Err(VsockError::Protocol { answer, .. }) = connect(ours, 100).await else { panic!("it was taken") };
        assert_eq!(answer, "x".repeat(MAX_ANSWER));
        proxy.await.unwrap();
    }
}
