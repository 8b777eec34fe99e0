//! A guest's tools, as a client of the bus has them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::os::unix::net::UnixStream as StdStream;

use nexus_dbus::client::{GuestProxy, Options};
use nexus_model::ErrorKind;
use nexus_tests::{PATIENCE, TestDaemon, daemonises, has_died, pid_in};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};
use zbus::OwnedFd;

/// A session by hand: what goes over the stream is what the protocol says, and no library's own.
struct Session(BufReader<UnixStream>);

impl Session {
    async fn begin(stream: OwnedFd) -> Self {
        let stream = StdStream::from(std::os::fd::OwnedFd::from(stream));
        stream.set_nonblocking(true).unwrap();
        let mut session = Self(BufReader::new(UnixStream::from_std(stream).unwrap()));
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        assert_eq!(session.ask(0, "initialize", hello).await["protocolVersion"], "2025-06-18");
        session.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        session
    }

    async fn send(&mut self, message: Value) {
        self.0.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("an answer in time").unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], id, "{line}");
        answer["result"].take()
    }

    async fn shell(&mut self, id: u64, script: &str) -> Value {
        let params = json!({"name": "run_command", "arguments": {"script": script}});
        self.ask(id, "tools/call", params).await["structuredContent"].take()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_the_daemon_and_ends_with_its_stream() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    assert_eq!(guest.features().await.unwrap(), ["copy", "files", "spares", "streams", "terminals", "tools"]);
    let caller = daemon.bus.connect().await;
    let proxy = GuestProxy::builder(&caller).path(vm.clone()).build().await.unwrap();
    let mut session = Session::begin(proxy.open_tools(Options::new()).await.unwrap()).await;
    drop(proxy);
    caller.close().await.unwrap();
    assert_eq!(session.shell(1, "echo here").await["stdout"], "here\n");
    let daemon = daemon.replace().await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let note = daemon.home.path().join("note");
    assert_eq!(session.shell(2, &daemonises(&note)).await["exit_code"], 0);
    let left = pid_in(&note).await;
    let stays = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {
        "name": "run_command", "arguments": {"script": format!("echo $$ >{}-2; exec sleep 1000", note.display())}}});
    session.send(stays).await;
    let running = pid_in(&note.with_file_name("note-2")).await;
    drop(session);
    has_died(running).await;
    // What a command leaves behind when it ends by itself is nobody's.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(left.try_into().unwrap()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_session_have_the_vms_environment() {
    let daemon = TestDaemon::start().await;
    let env = zbus::Variant::from(std::collections::HashMap::from([("FROM_THE_VM", "yes")]));
    let vm = daemon.run("web", [("env", env)]).await;
    let stream = daemon.guest(&vm).await.open_tools(Options::new()).await.unwrap();
    let mut session = Session::begin(stream).await;
    assert_eq!(session.shell(1, "echo $FROM_THE_VM").await["stdout"], "yes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_sessions() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(guest.open_tools(Options::new()).await.unwrap());
    }
    let error = guest.open_tools(Options::new()).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ResourcesExhausted), "{error}");
    assert!(error.to_string().contains("32 MCP sessions"), "{error}");
}
