//! One WebSocket, and the viewer of a terminal that it is.

use std::{
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix},
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use nexus_dbus::client::Options;
use nexus_protocol::Token;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    lobby::Visit,
    message::{self, FromClient, Greeting},
    request,
    serve::Terminal,
};
use crate::{guest::Guest, output::clean};

/// How long a client may take until it has said who it is.
const OPENING: Duration = Duration::from_secs(10);

/// How long a client may take to answer that it is over.
const CLOSING: Duration = Duration::from_secs(2);

/// The longest message that a client sends.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

const CHUNK_BYTES: usize = 16 * 1024;

/// The longest reason in a frame that closes a WebSocket (RFC 6455, 5.5).
const MAX_REASON_BYTES: usize = 123;

/// What is answered to what is no WebSocket's request.
const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

type Socket<'a> = WebSocketStream<&'a mut TcpStream>;

/// Why a WebSocket is closed.
type Reason = (CloseCode, String);

/// Makes a connection a WebSocket and a viewer, to its end.
pub(super) async fn serve(
    mut stream: TcpStream,
    visit: Visit<'_>,
    here: SocketAddr,
    token: &Token,
    guest: &Guest<'_>,
    terminal: Terminal<'_>,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(CHUNK_BYTES)
        .write_buffer_size(CHUNK_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    #[expect(clippy::result_large_err, reason = "the library asks for it")]
    let answer =
        |request: &Request, response: Response| request::answer(here, request, response).map_err(request::refusal);
    let accepting = accept_hdr_async_with_config(&mut stream, answer, Some(config));
    let accepted = tokio::select! {
        accepted = timeout(OPENING, accepting) => accepted,
        () = visit.is_over() => return,
    };
    let is_answered = match accepted {
        Ok(Ok(socket)) => return talk(socket, visit, token, guest, terminal).await,
        Ok(Err(Error::Http(_))) | Err(_) => true,
        Ok(Err(_)) => false,
    };
    if !is_answered {
        // Who does not read it has no use for it.
        let _ = timeout(CLOSING, stream.write_all(FORBIDDEN)).await;
    }
}

async fn talk(mut socket: Socket<'_>, visit: Visit<'_>, token: &Token, guest: &Guest<'_>, terminal: Terminal<'_>) {
    let admitted = tokio::select! {
        admitted = admit(&mut socket, token) => admitted,
        () = visit.is_over() => None,
    };
    drop(visit);
    let Some(size) = admitted else { return };
    if let Some(reason) = view(&mut socket, size, guest, terminal).await {
        close(&mut socket, reason).await;
    }
}

/// What size a client has that knows the token, if it says so; none for any other client.
async fn admit(socket: &mut Socket<'_>, token: &Token) -> Option<Option<(u32, u32)>> {
    match timeout(OPENING, greeting(socket)).await {
        Ok(None) => None,
        Ok(Some(greeting)) if greeting.token == *token => Some(greeting.size),
        Ok(Some(_)) | Err(_) => {
            let why = "the token is not the one that nexusctl has shown";
            close(socket, (CloseCode::Policy, why.to_owned())).await;
            None
        }
    }
}

/// Says why, and waits a moment until it is heard.
async fn close(socket: &mut Socket<'_>, (code, reason): Reason) {
    let closing = async {
        let mut reason = clean(&reason).to_string();
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        let frame = CloseFrame { code, reason: reason.into() };
        if socket.close(Some(frame)).await.is_ok() {
            // With something unread the connection would be reset, and that frame lost.
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        }
    };
    // Who does not take it is gone.
    let _ = timeout(CLOSING, closing).await;
}

/// What the client says first; none when it is gone. What is no greeting has no token.
async fn greeting(socket: &mut Socket<'_>) -> Option<Greeting> {
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(_) | Message::Binary(_) = message {
            let nobody = Greeting { token: "".into(), size: None };
            return Some(Greeting::parse(&message.into_data()).unwrap_or(nobody));
        }
    }
    None
}

/// Shows the terminal; why that has ended, unless it is the client that has.
async fn view(
    socket: &mut Socket<'_>,
    size: Option<(u32, u32)>,
    guest: &Guest<'_>,
    terminal: Terminal<'_>,
) -> Option<Reason> {
    let Terminal { vm, name, read_only } = terminal;
    let mut options = Options::from([("name", name.to_owned().into()), ("read-only", read_only.into())]);
    // Who only looks on is shown it as it is.
    let size = size.filter(|_| !read_only);
    if let Some((columns, rows)) = size {
        options.insert("columns", columns.into());
        options.insert("rows", rows.into());
    }
    let opened = guest.open_shell(&format!("open terminal {name} in VM {vm}"), options).await;
    let (id, stream) = match opened {
        Ok((id, stream)) => (id, nonblocking(stream)),
        Err(failure) => return Some((CloseCode::Error, failure.in_one_line())),
    };
    let Ok(stream) = stream else { return Some((CloseCode::Error, "cannot use the terminal's stream".to_owned())) };
    for message in [message::title(&format!("{name} in VM {vm}")), message::preferences()] {
        socket.send(Message::binary(message)).await.ok()?;
    }
    let (pause, paused) = watch::channel(false);
    let (resize, resized) = watch::channel(size);
    let (from, into) = stream.into_split();
    let (sink, source) = socket.split();
    tokio::select! {
        reason = show(from, sink, paused) => reason,
        () = listen(source, into, &pause, &resize) => None,
        never = guest.follow_size(id, resized), if !read_only => match never {},
    }
}

/// The guest's stream, which is a Unix socket, or one of vsock, which is used like one.
fn nonblocking(stream: OwnedFd) -> io::Result<UnixStream> {
    let stream = unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Until the terminal's end, which is a reason, or the client takes no more. While the client wants a pause, nothing is
/// read: the guest has its own way with slow viewers.
async fn show(
    mut from: OwnedReadHalf,
    mut sink: impl Sink<Message> + Unpin,
    mut paused: watch::Receiver<bool>,
) -> Option<Reason> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        paused.wait_for(|paused| !paused).await.ok()?;
        let count = tokio::select! {
            biased;
            _ = paused.changed() => continue,
            count = from.read(&mut chunk) => count.unwrap_or(0),
        };
        if count == 0 {
            return Some((CloseCode::Normal, "the terminal has ended".to_owned()));
        }
        let output = message::output(chunk.get(..count).unwrap_or_default());
        sink.send(Message::binary(output)).await.ok()?;
    }
}

/// Until the client is gone.
async fn listen(
    mut source: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut into: OwnedWriteHalf,
    pause: &watch::Sender<bool>,
    resize: &watch::Sender<Option<(u32, u32)>>,
) {
    while let Some(Ok(message)) = source.next().await {
        if !matches!(message, Message::Text(_) | Message::Binary(_)) {
            continue;
        }
        match FromClient::parse(&message.into_data()) {
            // The terminal's end is told by its output.
            Some(FromClient::Input(typed)) => drop(into.write_all(typed).await),
            Some(FromClient::Resize(columns, rows)) => drop(resize.send_replace(Some((columns, rows)))),
            Some(FromClient::Pause) => drop(pause.send_replace(true)),
            Some(FromClient::Resume) => drop(pause.send_replace(false)),
            // As ttyd does with what it does not know.
            None => {}
        }
    }
}
