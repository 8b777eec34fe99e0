//! The agent as an MCP server, driven by the SDK's client over the host's own stream.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test needs all of the support")]

mod support;

use std::{
    collections::BTreeMap,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    time::Duration,
};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_protocol::{FailureKind, Features, MAX_TOOLS_LINE_BYTES};
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ProgressNotificationParam,
        ProtocolVersion, ServerResult,
    },
    service::{NotificationContext, PeerRequestOptions, RequestHandle, RunningService},
};
use serde_json::{Value, json};
use support::{Agent, bounded, is_alive, kind, pid_in, until};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
};

/// A client that passes on what it is told meanwhile.
struct Client(mpsc::UnboundedSender<ProgressNotificationParam>);

impl ClientHandler for Client {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(progress);
    }
}

type Running = RunningService<RoleClient, Client>;

async fn open(client: &AgentClient) -> UnixStream {
    of(bounded(client.open_tools(BTreeMap::new(), None)).await.unwrap().stream)
}

fn of(fd: OwnedFd) -> UnixStream {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

async fn begin(
    stream: UnixStream,
    lifecycle: ClientLifecycleMode,
) -> (Running, mpsc::UnboundedReceiver<ProgressNotificationParam>) {
    let (told, progress) = mpsc::unbounded_channel();
    (bounded(Client(told).serve_with_lifecycle(stream, lifecycle)).await.unwrap(), progress)
}

/// An agent, a control connection to it and an MCP session with it.
async fn session() -> (Agent, AgentClient, Running, mpsc::UnboundedReceiver<ProgressNotificationParam>) {
    let agent = Agent::start();
    let client = agent.client().await;
    let (session, progress) = begin(open(&client).await, ClientLifecycleMode::Initialize).await;
    (agent, client, session, progress)
}

fn params(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("no object: {arguments}") };
    CallToolRequestParams::new(tool).with_arguments(arguments)
}

async fn call(session: &Running, tool: &'static str, arguments: Value) -> CallToolResult {
    bounded(session.call_tool(params(tool, arguments))).await.unwrap()
}

/// Calls without waiting for the end.
async fn ask(session: &Running, tool: &'static str, arguments: Value) -> RequestHandle<RoleClient> {
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params(tool, arguments)));
    session.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap()
}

/// The structured content of a call that was done.
fn done(result: CallToolResult) -> Value {
    assert_ne!(result.is_error, Some(true), "{result:?}");
    result.structured_content.unwrap()
}

/// The text of a call that was not.
fn failed(result: &CallToolResult) -> String {
    assert_eq!(result.is_error, Some(true), "{result:?}");
    text(result)
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str()).collect()
}

#[tokio::test]
async fn the_tools_are_there_in_either_lifecycle() {
    let agent = Agent::start();
    let (client, welcome, _events) = agent.connect().await;
    assert!(welcome.features.has(Features::TOOLS));
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, newest] {
        let (session, _progress) = begin(open(&client).await, lifecycle).await;
        let tools = bounded(session.list_all_tools()).await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["file_read", "file_write", "file_delete", "run_command"]);
        let ran = done(call(&session, "run_command", json!({"argv": ["echo", "hi"]})).await);
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("hi\n"), &json!(0)));
        bounded(session.cancel()).await.unwrap();
    }
}

#[tokio::test]
async fn a_command_gets_what_it_is_given() {
    let agent = Agent::start();
    let client = agent.client().await;
    let env = [("VM", "of the VM"), ("BOTH", "of the VM")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let stream = of(bounded(client.open_tools(env.into(), None)).await.unwrap().stream);
    let (session, _progress) = begin(stream, ClientLifecycleMode::Initialize).await;
    let script = "pwd; echo \"$VM/$BOTH\"; cat; echo bad >&2; exit 3";
    let arguments = json!({"script": script, "cwd": "/usr", "env": {"BOTH": "own"}, "stdin": "in é\n"});
    let result = call(&session, "run_command", arguments).await;
    assert_eq!(text(&result), "/usr\nof the VM/own\nin é\n[standard error]\nbad\n[exit code 3]");
    let wanted = json!({
        "exit_code": 3, "signal": null, "timed_out": false, "truncated": false,
        "stdout": "/usr\nof the VM/own\nin é\n", "stderr": "bad\n", "stdout_bytes": 25, "stderr_bytes": 4
    });
    assert_eq!(done(result), wanted);
    let killed = done(call(&session, "run_command", json!({"script": "kill -15 $$"})).await);
    assert_eq!((&killed["exit_code"], &killed["signal"]), (&Value::Null, &json!(15)));
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said() {
    let (_agent, _client, session, _progress) = session().await;
    for (tool, arguments, said) in [
        ("run_command", json!({}), "either argv or script"),
        ("run_command", json!({"argv": ["a"], "script": "b"}), "either argv or script"),
        ("run_command", json!({"argv": []}), "no program"),
        ("run_command", json!({"argv": ["no-such-program"]}), "no program `no-such-program`"),
        ("run_command", json!({"argv": ["true"], "cwd": "/no/such"}), "no folder"),
        ("run_command", json!({"argv": ["true"], "user": "no-such-user"}), "no user"),
        ("run_command", json!({"argv": "true"}), "arguments of run_command"),
        ("run_command", json!({"argv": ["true"], "shell": true}), "shell"),
        ("file_read", json!({}), "path"),
        ("file_read", json!({"path": "/no/such/file"}), "No such file"),
    ] {
        let error = failed(&call(&session, tool, arguments.clone()).await);
        assert!(error.contains(said), "{arguments}: {error}");
    }
    let unknown = bounded(session.call_tool(params("reboot", json!({})))).await;
    assert!(matches!(&unknown, Err(ServiceError::McpError(error)) if error.message.contains("reboot")), "{unknown:?}");
}

#[tokio::test]
async fn files_are_below_the_folder_of_a_mere_process() {
    let (agent, _client, session, _progress) = session().await;
    let written = call(&session, "file_write", json!({"path": "/../../note", "content": "here"})).await;
    assert_eq!(done(written)["created"], true);
    assert_eq!(std::fs::read_to_string(agent.folder.path().join("note")).unwrap(), "here");
    let read = done(call(&session, "file_read", json!({"path": "/note"})).await);
    assert_eq!((&read["content"], &read["size"]), (&json!("here"), &json!(4)));
    done(call(&session, "file_delete", json!({"path": "/note"})).await);
    assert!(!agent.folder.path().join("note").exists());
    let error = failed(&call(&session, "file_read", json!({"path": "/etc/passwd"})).await);
    assert!(error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn output_comes_while_the_command_runs() {
    let (agent, _client, session, mut progress) = session().await;
    let go = agent.folder.path().join("go");
    let script = format!("printf é; while [ ! -e {} ]; do sleep 0.05; done; echo bad >&2; printf end", go.display());
    let running = ask(&session, "run_command", json!({"script": script})).await;
    let first = bounded(progress.recv()).await.unwrap();
    assert_eq!((first.message.as_deref(), first.progress), (Some("é"), 2.0));
    assert_eq!(first.progress_token, running.progress_token);
    std::fs::write(go, "").unwrap();
    let ServerResult::CallToolResult(result) = bounded(running.await_response()).await.unwrap() else { panic!() };
    let ran = done(result);
    assert_eq!((&ran["stdout"], &ran["stderr"]), (&json!("éend"), &json!("bad\n")));
    let mut rest = String::new();
    while let Ok(Some(more)) = tokio::time::timeout(Duration::ZERO, progress.recv()).await {
        assert!(more.progress > first.progress);
        rest.push_str(&more.message.unwrap());
    }
    assert!(rest == "bad\nend" || rest == "endbad\n", "{rest}");
}

#[tokio::test]
async fn much_output_is_cut_and_says_so() {
    let (_agent, _client, session, mut progress) = session().await;
    let script = "head -c 20000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero >&2";
    let running = ask(&session, "run_command", json!({"script": script})).await;
    let ServerResult::CallToolResult(result) = bounded(running.await_response()).await.unwrap() else { panic!() };
    assert!(text(&result).contains("of 20000000 bytes]"));
    let ran = done(result);
    assert_eq!((&ran["truncated"], &ran["stdout_bytes"]), (&json!(true), &json!(20_000_000)));
    assert_eq!(ran["stdout"].as_str().unwrap().len(), 3 << 20);
    // Each of these takes six bytes of JSON.
    assert_eq!(ran["stderr"].as_str().unwrap().len(), (3 << 20) / 6);
    while let Ok(Some(news)) = tokio::time::timeout(Duration::ZERO, progress.recv()).await {
        assert!(news.message.unwrap().len() < 20_000);
    }
}

/// A script that daemonises, writes the daemon's pid into `note` and stays.
fn stays(note: &std::path::Path) -> String {
    format!("setsid -f sh -c 'echo $$ >{}; exec sleep 1000'; exec sleep 1000", note.display())
}

#[tokio::test]
async fn a_timeout_kills_all_of_it() {
    let (agent, _client, session, _progress) = session().await;
    let note = agent.folder.path().join("note");
    let arguments = json!({"script": format!("echo begun; {}", stays(&note)), "timeout_ms": 1500});
    let result = call(&session, "run_command", arguments).await;
    assert!(failed(&result).contains("its time was up"));
    let ran = result.structured_content.unwrap();
    assert_eq!((&ran["timed_out"], &ran["stdout"]), (&json!(true), &json!("begun\n")));
    let daemon = pid_in(&note).await;
    until("the daemon is dead", || !is_alive(daemon)).await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_kills_all_of_it() {
    let (agent, _client, session, _progress) = session().await;
    let note = agent.folder.path().join("note");
    let running = ask(&session, "run_command", json!({"script": stays(&note)})).await;
    let daemon = pid_in(&note).await;
    bounded(running.cancel(None)).await.unwrap();
    until("the daemon is dead", || !is_alive(daemon)).await;
    done(call(&session, "run_command", json!({"argv": ["true"]})).await);
}

#[tokio::test]
async fn a_client_that_is_gone_kills_all_of_it() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let mut stream = open(&client).await;
    // By hand, since the SDK's client says farewell: this one reads nothing and is killed.
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let run = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "run_command", "_meta": {"progressToken": 7},
        "arguments": {"script": format!("{} & yes", stays(&note))}}});
    stream.write_all(format!("{hello}\n{ready}\n{run}\n").as_bytes()).await.unwrap();
    let daemon = pid_in(&note).await;
    drop(stream);
    until("the daemon is dead", || !is_alive(daemon)).await;
    bounded(client.ping()).await.unwrap();
}

#[tokio::test]
async fn a_session_has_so_many_requests_and_may_cancel_them() {
    let (_agent, _client, session, _progress) = session().await;
    let mut running = Vec::new();
    for _ in 0..32 {
        running.push(ask(&session, "run_command", json!({"argv": ["sleep", "1000"]})).await);
    }
    let refused = bounded(session.call_tool(params("run_command", json!({"argv": ["true"]})))).await;
    assert!(
        matches!(&refused, Err(ServiceError::McpError(error)) if error.message.contains("32 requests")),
        "{refused:?}"
    );
    for one in running {
        bounded(one.cancel(None)).await.unwrap();
    }
    done(call(&session, "run_command", json!({"argv": ["true"]})).await);
}

#[tokio::test]
async fn sessions_are_apart_and_so_many() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut sessions = Vec::new();
    for number in 0..32 {
        let (session, progress) = begin(open(&client).await, ClientLifecycleMode::Initialize).await;
        let ran = done(call(&session, "run_command", json!({"argv": ["echo", number.to_string()]})).await);
        assert_eq!(ran["stdout"], format!("{number}\n"));
        sessions.push((session, progress));
    }
    assert_eq!(kind(bounded(client.open_tools(BTreeMap::new(), None)).await), FailureKind::Exhausted);
    let (last, _) = sessions.pop().unwrap();
    bounded(last.cancel()).await.unwrap();
    // The agent sees that when it reads the end.
    let again = async {
        loop {
            match client.open_tools(BTreeMap::new(), None).await {
                Ok(opened) => break opened.stream,
                Err(AgentError::Failed(failure)) if failure.kind == FailureKind::Exhausted => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    let (session, _) = begin(of(bounded(again).await), ClientLifecycleMode::Initialize).await;
    done(call(&session, "run_command", json!({"argv": ["true"]})).await);
}

#[tokio::test]
async fn a_line_that_is_too_long_ends_the_session() {
    let agent = Agent::start();
    let client = agent.client().await;
    let (mut reading, mut writing) = open(&client).await.into_split();
    let endless = tokio::spawn(async move {
        let piece = vec![b'x'; 1 << 20];
        // The agent has had enough before all is written.
        for _ in 0..=MAX_TOOLS_LINE_BYTES / piece.len() {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
        }
        writing
    });
    let mut said = Vec::new();
    let _ = bounded(reading.read_to_end(&mut said)).await;
    assert_eq!(said, b"");
    drop(bounded(endless).await.unwrap());
    bounded(client.ping()).await.unwrap();
}

#[tokio::test]
async fn noise_is_no_session_and_harms_nobody() {
    let agent = Agent::start();
    let client = agent.client().await;
    for noise in
        ["\n\n\n", "{}\n", "[1,2]\n", "\u{0}\u{1}\n", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n"]
    {
        let mut stream = open(&client).await;
        stream.write_all(noise.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = bounded(lines.next_line()).await {
            assert!(serde_json::from_str::<Value>(&line).unwrap()["error"].is_object(), "{line}");
        }
    }
    let (session, _progress) = begin(open(&client).await, ClientLifecycleMode::Initialize).await;
    done(call(&session, "run_command", json!({"argv": ["true"]})).await);
}

#[tokio::test]
async fn a_stream_without_a_ticket_is_nobodys() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
    let payload = br#"{"token":"guessed"}"#;
    stream.write_all(b"CONNECT 200\n").await.unwrap();
    stream.write_u32(u32::try_from(payload.len()).unwrap()).await.unwrap();
    stream.write_all(payload).await.unwrap();
    let mut said = String::new();
    bounded(stream.read_to_string(&mut said)).await.unwrap_or_default();
    assert!(said.contains("unauthorized") || said.is_empty(), "{said}");
    bounded(client.ping()).await.unwrap();
}
