//! A VM, and Nexus itself, as a local MCP server, driven by the SDK's client over nexusctl's standard input and output.

use std::{path::Path, process::Stdio, time::Duration};

use nexus_dbus::client::Options;
use nexus_tests::{GuestParts, PATIENCE, REAL_PATIENCE, TestDaemon, has_died, pid_in};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError,
    model::{CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ProtocolVersion},
    service::{PeerRequestOptions, RunningService},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::said::{ctl, has, interrupt, nothing_left, ok, web, with_image};

type Client = RunningService<RoleClient, ()>;

fn start(daemon: &TestDaemon) -> Child {
    serve(daemon, &["mcp", "web"])
}

fn serve(daemon: &TestDaemon, arguments: &[&str]) -> Child {
    daemon.nexusctl(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

async fn begin(child: &mut Child, lifecycle: ClientLifecycleMode) -> Client {
    let stdio = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    timeout(PATIENCE, ().serve_with_lifecycle(stdio, lifecycle)).await.expect("a session in time").unwrap()
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> Result<Value, ServiceError> {
    let Value::Object(arguments) = arguments else { panic!("no object: {arguments}") };
    let params = CallToolRequestParams::new(tool).with_arguments(arguments);
    let result = timeout(PATIENCE, client.call_tool(params)).await.expect("an answer in time")?;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    Ok(result.structured_content.unwrap())
}

/// The client has enough, and nexusctl has nothing to say of that.
async fn ended(client: Client, child: Child) {
    client.cancel().await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// Asks for a command that writes its pid into `note` and stays.
fn stays(client: &Client, note: &Path) -> JoinHandle<Result<CallToolResult, ServiceError>> {
    let peer = client.peer().clone();
    let script = format!("echo $$ >{}; exec sleep 1000", note.display());
    tokio::spawn(async move {
        let arguments = json!({"script": script}).as_object().unwrap().clone();
        peer.call_tool(CallToolRequestParams::new("run_command").with_arguments(arguments)).await
    })
}

#[tokio::test]
async fn a_client_has_the_tools_of_a_vm() {
    let (daemon, _vm) = web().await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, newest] {
        let mut child = start(&daemon);
        let client = begin(&mut child, lifecycle).await;
        let tools = timeout(PATIENCE, client.list_all_tools()).await.unwrap().unwrap();
        assert_eq!(tools.len(), 4);
        call(&client, "file_write", json!({"path": "/note", "content": "hello"})).await.unwrap();
        let read = call(&client, "file_read", json!({"path": "/note"})).await.unwrap();
        assert_eq!(read["content"], "hello");
        let ran = call(&client, "run_command", json!({"script": "echo out; exit 3"})).await.unwrap();
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("out\n"), &json!(3)));
        call(&client, "file_delete", json!({"path": "/note"})).await.unwrap();
        ended(client, child).await;
    }
}

#[tokio::test]
async fn a_session_outlives_the_daemon() {
    let (daemon, _vm) = web().await;
    let mut child = start(&daemon);
    let client = begin(&mut child, ClientLifecycleMode::Initialize).await;
    let _daemon = daemon.replace().await;
    let ran = call(&client, "run_command", json!({"argv": ["echo", "still here"]})).await.unwrap();
    assert_eq!(ran["stdout"], "still here\n");
}

#[tokio::test]
async fn what_is_under_way_is_killed_with_nexusctl() {
    let (daemon, _vm) = web().await;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let note = daemon.home.path().join(format!("note-{signal}"));
        let mut child = start(&daemon);
        let client = begin(&mut child, ClientLifecycleMode::Initialize).await;
        let script = format!("echo $$ >{}; exec sleep 1000", note.display());
        let calling = tokio::spawn(async move { call(&client, "run_command", json!({"script": script})).await });
        let left = pid_in(&note).await;
        interrupt(&child, signal);
        has_died(left).await;
        timeout(PATIENCE, calling).await.unwrap().unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn what_was_asked_of_a_vm_that_goes_is_answered() {
    let (daemon, vm) = web().await;
    let note = daemon.home.path().join("note");
    let mut child = start(&daemon);
    let client = begin(&mut child, ClientLifecycleMode::Initialize).await;
    let calling = stays(&client, &note);
    pid_in(&note).await;
    daemon.vm(&vm).await.kill().await.unwrap();
    let error = timeout(PATIENCE, calling).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, ServiceError::McpError(error) if error.message.contains("VM web")), "{error:?}");
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    assert_eq!(output.status.code(), Some(1));
    has(&String::from_utf8_lossy(&output.stderr), &["the tools of VM web are gone", "nexusctl vm start web"]);
}

#[tokio::test]
async fn a_guest_that_comes_back_is_gone_on_with() {
    let (daemon, vm) = web().await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for (number, lifecycle) in [ClientLifecycleMode::Initialize, newest].into_iter().enumerate() {
        let note = daemon.home.path().join(format!("note-{number}"));
        let mut child = start(&daemon);
        let client = begin(&mut child, lifecycle).await;
        let calling = stays(&client, &note);
        let left = pid_in(&note).await;
        let leader = daemon.read(&vm).await.leader;
        kill(Pid::from_raw(leader.try_into().unwrap()), Signal::SIGKILL).unwrap();
        let error = timeout(PATIENCE, calling).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(&error, ServiceError::McpError(error) if error.message.contains("VM web")), "{error:?}");
        has_died(left).await;
        // Its restart policy starts it again; what is asked meanwhile waits.
        let ran = call(&client, "run_command", json!({"argv": ["echo", "again"]})).await.unwrap();
        assert_eq!(ran["stdout"], "again\n");
        client.cancel().await.unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
        assert_eq!(output.status.code(), Some(0));
        has(&String::from_utf8_lossy(&output.stderr), &["The tools of VM web are gone", "until they are back"]);
    }
}

#[tokio::test]
async fn a_client_that_is_gone_without_a_word_takes_its_command_along() {
    let (daemon, _vm) = web().await;
    let note = daemon.home.path().join("note");
    let mut child = start(&daemon);
    let client = begin(&mut child, ClientLifecycleMode::Initialize).await;
    let script = format!("echo $$ >{}; exec sleep 1000", note.display());
    let calling = tokio::spawn(async move { call(&client, "run_command", json!({"script": script})).await });
    let left = pid_in(&note).await;
    let start = Instant::now();
    // Both of its ends close, as when it is killed.
    calling.abort();
    let _ = calling.await;
    has_died(left).await;
    assert!(start.elapsed() < Duration::from_secs(60), "only once it was tired of waiting");
    timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
}

/// A script that asks and closes its end gets its answers all the same.
#[tokio::test]
async fn the_end_of_the_input_waits_for_the_answers() {
    let (daemon, _vm) = web().await;
    let mut child = start(&daemon);
    let mut into = child.stdin.take().unwrap();
    let too_long = "x".repeat(17 << 20);
    let lines = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
        .to_string(),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
        too_long,
        json!({"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": {
            "name": "run_command", "arguments": {"script": "sleep 1; echo slow"}}})
        .to_string(),
    ];
    let writing = tokio::spawn(async move { into.write_all(format!("{}\n", lines.join("\n")).as_bytes()).await });
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answers = Vec::new();
    while let Some(line) = timeout(PATIENCE, out.next_line()).await.expect("output in time").unwrap() {
        answers.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    writing.await.unwrap().unwrap();
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0));
    let answer = |id: Value| answers.iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("{answers:?}"));
    assert_eq!(answer(json!(1))["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(answer(json!("two"))["result"]["structuredContent"]["stdout"], "slow\n");
    assert!(answer(Value::Null)["error"]["message"].as_str().unwrap().contains("limit"));
}

#[tokio::test]
async fn a_vm_without_a_guest_says_what_to_do() {
    let (daemon, vm) = web().await;
    let job = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    let said = ctl(&daemon, &["mcp", "web"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    has(&said.err, &["stopped", "nexusctl vm start web"]);
    let said = ctl(&daemon, &["mcp", "nobody"]).await;
    assert_eq!(said.code, Some(1));
    has(&said.err, &["There is no VM `nobody`"]);
}

/// What a call that was not done says.
async fn refusal(client: &Client, tool: &'static str, arguments: Value) -> String {
    let params = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
    let result = timeout(PATIENCE, client.call_tool(params)).await.expect("an answer in time").unwrap();
    assert_eq!(result.is_error, Some(true), "{result:?}");
    result.content[0].as_text().unwrap().text.clone()
}

#[tokio::test]
async fn nexus_itself_is_a_server() {
    let daemon = with_image().await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, newest] {
        let mut child = serve(&daemon, &["mcp"]);
        let client = begin(&mut child, lifecycle).await;
        let call = async |tool, arguments| call(&client, tool, arguments).await.unwrap();
        assert_eq!(call("image_list", json!({})).await["images"][0]["name"], "base");
        assert_eq!(call("vm_list", json!({})).await, json!({"vms": []}));
        let created = call("vm_create", json!({"name": "web", "image": "base", "vmm": "process", "tags": ["a"]})).await;
        assert_eq!((&created["state"], &created["image"]), (&json!("created"), &json!("base")));
        let said = refusal(&client, "vm_exec", json!({"vm": "web", "argv": ["true"]})).await;
        has(&said, &["was never started", "vm_start"]);
        assert_eq!(call("vm_start", json!({"vm": "web"})).await["guest_ready"], true);
        assert_eq!(call("vm_start", json!({"vm": "web"})).await["state"], "running");
        let ran = call("vm_exec", json!({"vm": "web", "script": "cat; exit 3", "stdin": "in"})).await;
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("in"), &json!(3)));
        call("file_write", json!({"vm": "web", "path": "/note", "content": "hello"})).await;
        assert_eq!(call("file_read", json!({"vm": "web", "path": "/note"})).await["content"], "hello");
        call("file_delete", json!({"vm": "web", "path": "/note"})).await;
        for (tool, arguments, words) in [
            ("file_read", json!({"vm": "web", "path": "/note"}), &["No such file"][..]),
            ("file_read", json!({"vm": "web"}), &["arguments of file_read", "path"]),
            ("vm_exec", json!({"vm": "web"}), &["either argv or script"]),
            ("vm_exec", json!({"vm": "nobody", "argv": ["true"]}), &["There is no VM `nobody`", "vm_list"]),
            ("vm_create", json!({"name": "web"}), &["web"]),
            (
                "vm_create",
                json!({"name": "db", "image": "nothing", "vmm": "process"}),
                &["There is no image `nothing`", "image_list"],
            ),
            ("vm_create", json!({"name": "db", "disk": "none"}), &["disk"]),
            ("vm_delete", json!({"vm": "web"}), &["cannot delete VM web"]),
        ] {
            let said = refusal(&client, tool, arguments).await;
            let said = said.replacen("Cannot", "cannot", 1);
            has(&said, words);
        }
        assert_eq!(call("vm_list", json!({})).await["vms"][0]["state"], "running");
        assert_eq!(call("vm_stop", json!({"vm": "web"})).await["state"], "stopped");
        let deleted = call("vm_delete", json!({"vm": "web", "workspaces": true})).await;
        assert_eq!(deleted, json!({"vm": "web", "workspaces_left": []}));
        nothing_left(&daemon).await;
        ended(client, child).await;
    }
}

#[tokio::test]
async fn what_runs_for_a_client_of_nexus_ends_when_that_says_so_or_goes() {
    let (daemon, _vm) = web().await;
    let stays = |note: &Path| {
        let script = format!("setsid -f sh -c 'echo $$ >{}; exec sleep 1000'; exec sleep 1000", note.display());
        CallToolRequestParams::new("vm_exec")
            .with_arguments(json!({"vm": "web", "script": script}).as_object().unwrap().clone())
    };
    // Cancelled.
    let mut child = serve(&daemon, &["mcp"]);
    let client = begin(&mut child, ClientLifecycleMode::Initialize).await;
    let note = daemon.home.path().join("cancelled");
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(stays(&note)));
    let running = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let left = pid_in(&note).await;
    running.cancel(None).await.unwrap();
    has_died(left).await;
    // Out of time.
    let note = daemon.home.path().join("late");
    let mut late = stays(&note);
    late.arguments.as_mut().unwrap().insert("timeout_ms".to_owned(), json!(1500));
    let result = timeout(PATIENCE, client.call_tool(late)).await.unwrap().unwrap();
    assert_eq!((result.is_error, &result.structured_content.unwrap()["timed_out"]), (Some(true), &json!(true)));
    has_died(pid_in(&note).await).await;
    // Without any time, and in a folder that is everybody's own: that is asked for by mistake.
    for (key, value) in [("timeout_ms", json!(0)), ("cwd", json!("."))] {
        let mut wrong = stays(&note);
        wrong.arguments.as_mut().unwrap().insert(key.to_owned(), value);
        let result = timeout(PATIENCE, client.call_tool(wrong)).await.unwrap();
        assert!(result.as_ref().is_ok_and(|result| result.structured_content.is_none()), "{key}: {result:?}");
    }
    // Gone without a word.
    let note = daemon.home.path().join("gone");
    let calling = tokio::spawn({
        let call = stays(&note);
        async move { client.call_tool(call).await }
    });
    let left = pid_in(&note).await;
    calling.abort();
    has_died(left).await;
    assert_eq!(timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap().code(), Some(0));
    // Killed.
    let note = daemon.home.path().join("killed");
    let mut child = serve(&daemon, &["mcp"]);
    let client = begin(&mut child, ClientLifecycleMode::Initialize).await;
    let calling = tokio::spawn({
        let call = stays(&note);
        async move { client.call_tool(call).await }
    });
    let left = pid_in(&note).await;
    interrupt(&child, Signal::SIGKILL);
    has_died(left).await;
    timeout(PATIENCE, calling).await.unwrap().unwrap().unwrap_err();
}

/// A script that asks and closes its end gets its answers all the same, and nothing else.
#[tokio::test]
async fn the_end_of_the_input_of_nexus_waits_for_the_answers() {
    let (daemon, _vm) = web().await;
    let mut child = serve(&daemon, &["mcp"]);
    let lines = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "vm_exec", "arguments": {"vm": "web", "script": "sleep 7; echo slow"}}}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut into = child.stdin.take().unwrap();
    into.write_all(text.as_bytes()).await.unwrap();
    drop(into);
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2, "{text}");
    assert_eq!(answers[1]["result"]["structuredContent"]["stdout"], "slow\n");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// Lists and calls the tools of VM web, or of Nexus for it, with clients that others have written: the SDK of Python, the newest and the last one
/// of the revisions before. The VM calls itself `host_name`.
async fn with_the_sdk_of_python(daemon: &TestDaemon, host_name: &str, arguments: &[&str]) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (version, revision) in [("2", "2026-07-28"), ("1", "2025-11-25")] {
        let sdk = repository.join(format!("build/tools/mcp-client-{version}"));
        if !sdk.join("requirements.txt").exists() {
            nexus_tests::not_run("the SDK of Python is not there: tools/mcp-client installs it");
            return;
        }
        let nexusctl = daemon.nexusctl(arguments);
        let nexusctl = nexusctl.as_std();
        let mut client = Command::new(sdk.join("bin/python"));
        client
            .arg(repository.join("tests/mcp/client.py"))
            .arg(nexusctl.get_program())
            .args(nexusctl.get_args())
            .env_clear()
            .envs(nexusctl.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .kill_on_drop(true);
        let output = timeout(REAL_PATIENCE, client.output()).await.expect("the client ends").unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{revision} {host_name}\n"));
    }
}

#[tokio::test]
async fn the_sdk_of_python_has_the_tools_of_a_vm() {
    let (daemon, _vm) = web().await;
    let host_name = nix::unistd::gethostname().unwrap();
    with_the_sdk_of_python(&daemon, host_name.to_str().unwrap(), &["mcp", "web"]).await;
    with_the_sdk_of_python(&daemon, host_name.to_str().unwrap(), &["mcp"]).await;
}

#[tokio::test]
async fn the_sdk_of_python_has_the_tools_of_a_real_vm() {
    let Some(parts) = GuestParts::find() else { return };
    let daemon = TestDaemon::with_real_vm(&parts, &[]).await;
    with_the_sdk_of_python(&daemon, "web", &["mcp", "web"]).await;
    with_the_sdk_of_python(&daemon, "web", &["mcp"]).await;
    ok(&daemon, &["vm", "delete", "web", "--force", "--workspaces", "--yes"]).await;
    nothing_left(&daemon).await;
}
