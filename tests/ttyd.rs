//! `nexusctl attach --ttyd`, looked at by a client of WebSocket that speaks as ttyd's does.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{io::ErrorKind, process::Stdio, time::Duration};

use futures_util::{SinkExt, StreamExt};
use nexus_dbus::client::Options;
use nexus_tests::{GuestParts, PATIENCE, TestDaemon};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Child,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

/// A nexusctl that waits for clients.
struct Served {
    child: Child,
    port: u16,
    token: String,
}

impl Served {
    async fn start(daemon: &TestDaemon, more: &[&str]) -> Self {
        let arguments = [&["attach", "web", "--ttyd", "127.0.0.1:0"], more].concat();
        let mut child = daemon.nexusctl(&arguments).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = async || timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().unwrap();
        let url = line().await;
        let port =
            url.rsplit_once("ws://127.0.0.1:").and_then(|(_, rest)| rest.strip_suffix("/ws")).expect("an address");
        let token = line().await.strip_prefix("Token: ").expect("a token").to_owned();
        assert!(token.len() == 32, "128 bits");
        Self { child, port: port.parse().unwrap(), token }
    }

    async fn connect(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<WebSocketStream<TcpStream>, u16> {
        let mut request = format!("ws://127.0.0.1:{}{path}", self.port).into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "tty".parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        match timeout(PATIENCE, client_async(request, stream)).await.expect("an answer in time") {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "tty");
                Ok(socket)
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    async fn client(&self) -> Client {
        self.client_with(&self.token).await
    }

    async fn client_with(&self, token: &str) -> Client {
        let mut client = Client { socket: self.connect("/ws", &[]).await.unwrap(), shown: String::new(), end: None };
        client.says(&format!("{{\"AuthToken\":\"{token}\",\"columns\":101,\"rows\":37}}")).await;
        client
    }

    async fn ends(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()), signal).unwrap();
        timeout(PATIENCE, self.child.wait()).await.expect("nexusctl ends").unwrap().code()
    }
}

/// A client that keeps what it is shown.
struct Client {
    socket: WebSocketStream<TcpStream>,
    shown: String,
    end: Option<(CloseCode, String)>,
}

impl Client {
    async fn says(&mut self, message: &str) {
        self.socket.send(Message::binary(message.to_owned())).await.unwrap();
    }

    /// The next message, as its kind and the rest; none at the end.
    async fn hears(&mut self) -> Option<(char, String)> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    return Some((text.chars().next().unwrap(), text[1..].to_owned()));
                }
                Some(Ok(Message::Close(Some(frame)))) => self.end = Some((frame.code, frame.reason.to_string())),
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn sees(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let Some((kind, rest)) = self.hears().await else { panic!("{text:?} is not in {:?}", self.shown) };
            if kind == '0' {
                self.shown.push_str(&rest);
            }
        }
    }

    async fn closes(&mut self) -> (CloseCode, String) {
        while self.hears().await.is_some() {}
        self.end.take().expect("it is told why")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_shown_as_ttyd_would() {
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    let served = Served::start(&daemon, &[]).await;
    let mut first = served.client().await;
    assert_eq!(first.hears().await, Some(('1', "main in VM web".to_owned())));
    let (kind, preferences) = first.hears().await.unwrap();
    assert_eq!(kind, '2');
    assert!(serde_json::from_str::<Value>(&preferences).unwrap().is_object());
    first.says("0stty -echo; echo si''ze $(stty size); printf '\\033]0;x\\007'\r").await;
    first.sees("size 37 101").await;
    // A title that a program sets is the client's to find in what it shows.
    first.sees("\x1b]0;x\x07").await;
    first.says("1{\"columns\":90,\"rows\":33}").await;
    first.says("0until [ \"$(stty size)\" = '33 90' ]; do sleep 0.05; done; echo resi''zed\r").await;
    first.sees("resized").await;

    // Another one sees the same, and goes on where the first wants a pause.
    let mut second = served.client().await;
    second.sees("resized").await;
    first.says("2").await;
    // What it says next is heard after that.
    first.says("0echo pau''sed\r").await;
    second.sees("paused").await;
    // What was on its way before may come still.
    while let Ok(Some((_, rest))) = timeout(Duration::from_millis(300), first.hears()).await {
        first.shown.push_str(&rest);
    }
    assert!(!first.shown.contains("paused"), "it is shown something in its pause");
    first.says("3").await;
    first.sees("paused").await;
    first.says("9what nobody knows").await;
    second.says("0exit\r").await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.closes().await, (CloseCode::Normal, "the terminal has ended".to_owned()));
    }

    // It waits for more, and a client that goes leaves the terminal.
    let mut third = served.client().await;
    third.says("0echo ano''ther\r").await;
    third.sees("another").await;
    drop(third);
    let mut fourth = served.client().await;
    fourth.sees("another").await;
    assert_eq!(served.ends(Signal::SIGTERM).await, Some(128 + 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_token_keeps_nobody_out() {
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    let served = Served::start(&daemon, &[]).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(("127.0.0.1", served.port)).await.unwrap());
    }
    let mut client = served.client().await;
    client.says("0echo insi''de\r").await;
    client.sees("inside").await;
    // None of them was waited for, or this one would have been given up first.
    assert!(idle[20].try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    assert_eq!(timeout(PATIENCE, idle[0].read(&mut [0])).await.expect("it has to go").unwrap_or(0), 0);
    assert_eq!(served.ends(Signal::SIGTERM).await, Some(128 + 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_without_a_guest_says_what_to_do() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let job = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    let serving = ["attach", "web", "--ttyd", "127.0.0.1:0"];
    let stopped = timeout(PATIENCE, daemon.nexusctl(&serving).output()).await.expect("nexusctl ends").unwrap();
    assert_eq!(stopped.status.code(), Some(1));
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(said.contains("nexusctl vm start web"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_in() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let served = Served::start(&daemon, &["--read-only"]).await;
    let other = served.token.chars().rev().collect::<String>();
    for token in ["", "guess", &other, &format!("{}0", served.token)] {
        let mut client = served.client_with(token).await;
        let (code, reason) = client.closes().await;
        assert_eq!(code, CloseCode::Policy);
        assert!(reason.contains("the token") && client.shown.is_empty(), "{reason}");
    }
    let mut noise = served.connect("/ws", &[]).await.unwrap();
    noise.send(Message::binary("0ls\r")).await.unwrap();
    assert!(matches!(noise.next().await, Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Policy));
    let mut giant = served.connect("/ws", &[]).await.unwrap();
    // It is cut off in the middle of that.
    let _ = giant.send(Message::binary(vec![b'{'; 1 << 20])).await;
    while giant.next().await.is_some_and(|message| message.is_ok()) {}

    assert_eq!(served.connect("/ws", &[("Origin", "https://evil.example")]).await.unwrap_err(), 403);
    assert_eq!(served.connect("/ws", &[("Host", &format!("evil.example:{}", served.port))]).await.unwrap_err(), 403);
    assert_eq!(served.connect("/token", &[]).await.unwrap_err(), 403);
    assert!(served.connect("/ws", &[("Origin", "http://localhost:3000")]).await.is_ok());
    let mut page = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    page.write_all(b"GET /token HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, page.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(daemon.guest(&vm).await.list_shells().await.unwrap(), [], "nothing was opened for any of them");

    // Who may only look types nothing, and does not change the size.
    let mut onlooker = served.client().await;
    let guest = daemon.guest(&vm).await;
    let opened = async {
        loop {
            if let [(_, _, columns, rows, _)] = guest.list_shells().await.unwrap()[..] {
                return (columns, rows);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, opened).await.expect("it opens one"), (80, 24), "not the onlooker's 101 by 37");
    let typed = Served::start(&daemon, &[]).await;
    let mut person = typed.client().await;
    onlooker.says("0echo on''looker\r").await;
    person.says("0echo per''son\r").await;
    onlooker.sees("person").await;
    assert!(!onlooker.shown.contains("onlooker"));

    for address in ["0.0.0.0:7681", "[::]:7681", "192.0.2.1:7681"] {
        let command = daemon.nexusctl(&["attach", "web", "--ttyd", address]).output();
        let output = timeout(PATIENCE, command).await.expect("nexusctl ends").unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("others than this machine could connect there"));
    }
    assert_eq!(served.ends(Signal::SIGINT).await, Some(128 + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_of_a_real_vm_is_shown_and_held_up_by_a_pause() {
    let Some(parts) = GuestParts::find() else { return };
    let daemon = TestDaemon::with_real_vm(&parts, &[]).await;
    let served = Served::start(&daemon, &[]).await;
    let mut client = served.client().await;
    client.says("0stty -echo; echo si''ze $(stty size) $(uname -n)\r").await;
    client.sees("size 37 101 web").await;
    client.says("1{\"columns\":90,\"rows\":33}").await;
    client.says("0until [ \"$(stty size)\" = '33 90' ]; do sleep 0.1; done; echo resi''zed\r").await;
    client.sees("resized").await;
    client.says("2").await;
    client.says("0echo af''ter the pause\r").await;
    let early = timeout(Duration::from_secs(1), client.sees("after the pause")).await;
    assert!(early.is_err(), "it is shown during the pause");
    client.says("3").await;
    client.sees("after the pause").await;
    client.says("0exit\r").await;
    assert_eq!(client.closes().await.0, CloseCode::Normal);
    assert_eq!(served.ends(Signal::SIGINT).await, Some(130));
}
