//! The agent as process 1 of a real VM. These tests need what `tools/guest` makes, and say so where it is missing.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says why it does not run")]

#[path = "support/vm.rs"]
mod vm;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::ExitStatus;
use nexus_protocol::{Command, Event, FailureKind, OpenTerminal, Role, ShutdownMode};
use rmcp::{ServiceExt, model::CallToolRequestParams};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use vm::{VM_PATIENCE, Vm};

/// Longer than the 8 s after which the guest's kernel resets a connection whose end the proxy has not confirmed.
const SLOW: Duration = Duration::from_secs(11);

fn sh(script: &str) -> Command {
    Command::new(["/bin/sh", "-c", script])
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    timeout(VM_PATIENCE, work).await.expect("in time")
}

async fn joined<T: Send + 'static>(handle: thread::JoinHandle<T>) -> T {
    bounded(tokio::task::spawn_blocking(move || handle.join().unwrap())).await.unwrap()
}

fn read_all(fd: OwnedFd) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).unwrap();
        bytes
    })
}

async fn output(client: &AgentClient, script: &str) -> String {
    let ran = bounded(client.run(&sh(script))).await.unwrap();
    assert_eq!(ran.status, ExitStatus::Code(0), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// 50 MB there and back through one command, compared byte by byte.
async fn carries_fifty_megabytes(client: &AgentClient) {
    let bytes: Vec<u8> =
        (0..12_500_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let exec = client.exec(&Command::new(["cat"]), None).await.unwrap();
    let start = Instant::now();
    let (stdout, to_write) = (read_all(exec.stdout), bytes.clone());
    let writer = thread::spawn(move || File::from(exec.stdin).write_all(&to_write).unwrap());
    joined(writer).await;
    assert!(joined(stdout).await == bytes, "what came back is not what was sent");
    eprintln!("50 MB to the guest and back: {:?}", start.elapsed());
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Code(0));
}

/// Readers that begin long after the command has ended get everything, and then the end. The sizes are around what a
/// Unix socket and the proxy together hold.
async fn loses_nothing_for_slow_readers(client: &AgentClient) {
    let mut execs = Vec::new();
    for size in (0..32).map(|step| 24_000 * step + 1) {
        let exec = client.exec(&sh(&format!("head -c {size} /dev/zero")), None).await.unwrap();
        execs.push((size, exec));
    }
    tokio::time::sleep(SLOW).await;
    let start = Instant::now();
    for (size, exec) in execs {
        assert_eq!(joined(read_all(exec.stdout)).await.len(), size);
    }
    eprintln!("32 slow readers: {:?}", start.elapsed());
}

async fn tells_how_commands_end(client: &AgentClient) {
    for (script, status) in [
        ("exit 7", ExitStatus::Code(7)),
        ("kill -15 $$", ExitStatus::Signal(15)),
        ("kill -9 $$", ExitStatus::Signal(9)),
    ] {
        let exec = client.exec(&sh(script), None).await.unwrap();
        assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), status, "{script}");
    }
    for (program, kind) in [("no-such-program", FailureKind::NotFound), ("/etc/passwd", FailureKind::NotExecutable)] {
        let failed = client.exec(&Command::new([program]), None).await;
        assert!(matches!(failed, Err(AgentError::Failed(failure)) if failure.kind == kind), "{program}");
    }
}

/// A script whose grandchild has left its session, its environment and its parent, and writes its pid down.
const DAEMONISES: &str =
    "rm -f /tmp/pid; env -i setsid sh -c 'sh -c \"echo \\$\\$ >/tmp/pid; exec sleep 1000\" >/dev/null 2>&1 &'";

/// The pid that was written down, once it is.
async fn daemon(client: &AgentClient) -> String {
    output(client, "until [ -s /tmp/pid ]; do :; done; cat /tmp/pid").await.trim().to_owned()
}

/// Waits until there is no such process in the guest.
async fn has_died(client: &AgentClient, pid: &str) {
    output(client, &format!("while [ -e /proc/{pid} ]; do :; done")).await;
}

/// Whatever a command has become, it ends when nobody has its streams.
async fn kills_all_that_a_vanished_client_started(client: &AgentClient) {
    let daemonises = format!("{DAEMONISES}; echo ready; exec sleep 1000");
    let leaves = "echo $$ >/sys/fs/cgroup/cgroup.procs; echo $$ >/tmp/pid; echo ready; sleep 1000; exit 1";
    let closes = format!("{DAEMONISES}; echo ready; exec >&- 2>&-; sleep 1000; exit 1");
    for script in [daemonises.as_str(), leaves, closes.as_str()] {
        let exec = client.exec(&sh(script), None).await.unwrap();
        let mut stdout = File::from(exec.stdout);
        let ready = thread::spawn(move || {
            stdout.read_exact(&mut [0; 6]).unwrap();
            stdout
        });
        let stdout = joined(ready).await;
        let left = daemon(client).await;
        let mut stdin = File::from(exec.stdin);
        if script == leaves {
            // Nothing of it is taken: the proxy does not come to the end of it.
            nix::fcntl::fcntl(&stdin, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
            while stdin.write_all(&[b'x'; 4096]).is_ok() {}
        }
        let start = Instant::now();
        drop((stdin, stdout, exec.stderr));
        assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Signal(9), "{script}");
        eprintln!("client gone → command killed: {:?}", start.elapsed());
        has_died(client, &left).await;
    }
    // What nobody has to read is dropped.
    let detached = client.detach(&sh("head -c 1000000 /dev/zero; exit 3")).await.unwrap();
    assert_eq!(bounded(client.wait_exec(detached)).await.unwrap(), ExitStatus::Code(3));
}

/// An MCP session, and what its end does to what it has under way.
async fn offers_tools(client: &AgentClient) {
    let stream = UnixStream::from(bounded(client.open_tools(BTreeMap::new(), None)).await.unwrap().stream);
    stream.set_nonblocking(true).unwrap();
    let session = bounded(().serve(tokio::net::UnixStream::from_std(stream).unwrap())).await.unwrap();
    let params = |tool: &'static str, arguments: serde_json::Value| {
        CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone())
    };
    let call = async |tool, arguments| {
        let result = bounded(session.call_tool(params(tool, arguments))).await.unwrap();
        assert_eq!(result.is_error, Some(false), "{result:?}");
        result.structured_content.unwrap()
    };
    let start = Instant::now();
    assert_eq!(call("run_command", json!({"argv": ["hostname"]})).await["stdout"], "box-1\n");
    eprintln!("run_command of `hostname`: {:?}", start.elapsed());
    call("file_write", json!({"path": "/root/deep/note", "content": "hello", "create_folders": true})).await;
    assert_eq!(call("file_read", json!({"path": "/root/deep/note"})).await["content"], "hello");
    assert_eq!(output(client, "cat /root/deep/note").await, "hello");
    call("file_delete", json!({"path": "/root/deep", "recursive": true})).await;
    output(client, "test ! -e /root/deep; rm -f /tmp/pid").await;

    let script = format!("{DAEMONISES}; exec sleep 1000");
    let peer = session.peer().clone();
    let calling = tokio::spawn(async move { peer.call_tool(params("run_command", json!({"script": script}))).await });
    let left = daemon(client).await;
    let start = Instant::now();
    bounded(session.cancel()).await.unwrap();
    has_died(client, &left).await;
    eprintln!("MCP client gone → command killed: {:?}", start.elapsed());
    assert!(bounded(calling).await.unwrap().is_err());
}

/// Each listens on a port of its own, which another one gets after its end.
async fn shows_terminals(client: &AgentClient) {
    let open = async || {
        let command = sh("stty -echo; echo ready; read line; echo \"<$line>\"; exit 4");
        let opened = client.open_terminal(OpenTerminal { command, ..OpenTerminal::default() });
        bounded(opened).await.unwrap()
    };
    for _ in 0..2 {
        let terminals = [open().await, open().await, open().await];
        let start = Instant::now();
        for (number, terminal) in terminals.into_iter().enumerate() {
            let mut keys = File::from(terminal.stream);
            let display = read_all(keys.try_clone().unwrap().into());
            keys.write_all(format!("line {number}\r").as_bytes()).unwrap();
            let text = String::from_utf8(joined(display).await).unwrap();
            assert!(text.ends_with(&format!("<line {number}>\r\n")), "{text:?}");
            assert_eq!(bounded(client.wait_exec(terminal.id)).await.unwrap(), ExitStatus::Code(4));
        }
        eprintln!("3 terminals: {:?}", start.elapsed());
    }
}

/// Seconds of a line of `date +%s` by which the guest's clock is not that of this machine.
fn seconds_off(line: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    line.trim().parse::<u64>().unwrap().abs_diff(now)
}

/// Between a freeze and a refresh no command runs, also where the virtual CPUs do; the first moment of the next one that
/// runs, and of those that go on, is one of the right time.
async fn stands_still_and_is_told_how_late_it_is(vm: &Vm, client: &AgentClient) {
    // Booted by an emulated CPU it may be late by as much as that took.
    client.refresh(VM_PATIENCE).await.unwrap();
    let marker = client.exec(&sh("while :; do date +%s; usleep 10000; done"), None).await.unwrap();
    let (told, mut lines) = mpsc::unbounded_channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(File::from(marker.stdout)).lines() {
            told.send(line.unwrap()).unwrap();
        }
    });
    assert!(seconds_off(&bounded(lines.recv()).await.unwrap()) < 2);
    client.freeze(VM_PATIENCE).await.unwrap();
    // What it had written by then is on its way.
    while timeout(Duration::from_secs(1), lines.recv()).await.is_ok() {}
    let other = client.clone();
    let held = tokio::spawn(async move { output(&other, "date +%s").await });
    // It has been asked for when a later call is answered: what is sent to a guest that stands still may block its vsock.
    tokio::task::yield_now().await;
    bounded(client.ping()).await.unwrap();
    vm.monitor("stop");
    tokio::time::sleep(Duration::from_secs(3)).await;
    vm.monitor("cont");
    assert!(timeout(Duration::from_secs(1), lines.recv()).await.is_err(), "the marker has run");
    assert!(!held.is_finished());

    let start = Instant::now();
    let refreshed = client.refresh(VM_PATIENCE).await.unwrap();
    eprintln!("refresh: {:?}, by {} µs", start.elapsed(), refreshed.stepped_us);
    assert!(refreshed.stepped_us > 2_000_000, "{refreshed:?}");
    let first = bounded(lines.recv()).await.unwrap();
    assert!(seconds_off(&first) < 2, "{first}");
    let first = bounded(held).await.unwrap();
    assert!(seconds_off(&first) < 2, "{first}");
    // What is off by as long as it took to say is near enough.
    assert!(client.refresh(VM_PATIENCE).await.unwrap().stepped_us < 2_000_000);
    client.signal_exec(marker.id, 9).await.unwrap();
    joined(reader).await;
}

#[tokio::test]
async fn is_the_init_of_a_bare_root_file_system() {
    let Some(mut vm) = Vm::start("nexus.hostname=box-1 nexus.token=5ecret") else { return };
    let (client, welcome, mut events) = vm.connect(Some("5ecret")).await;
    eprintln!(
        "QEMU started → agent answered: {:?}; guest's uptime then: {} µs",
        vm.started.elapsed(),
        welcome.uptime_us
    );
    assert_eq!(welcome.role, Role::Init);
    assert_eq!(welcome.hostname.as_str(), "box-1");
    assert_eq!(welcome.os_name.as_str(), "Nexus demo");
    assert_eq!(welcome.metadata_problem, None);
    assert!(welcome.metadata.iter().any(|(key, value)| (key.as_str(), value.as_str()) == ("name", "demo")));
    for token in [None, Some("guess")] {
        let refused = AgentClient::connect(&vm.endpoint(), token, VM_PATIENCE).await;
        assert!(matches!(refused, Err(AgentError::Failed(failure)) if failure.kind == FailureKind::Unauthorized));
    }

    assert_eq!(output(&client, "hostname; id -u; echo $HOME; pwd").await, "box-1\n0\n/root\n/root\n");
    let start = Instant::now();
    bounded(client.ping()).await.unwrap();
    let ping = start.elapsed();
    let start = Instant::now();
    bounded(client.run(&Command::new(["true"]))).await.unwrap();
    eprintln!("ping: {ping:?}, run of `true`: {:?}", start.elapsed());
    for mounted in ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp", "/sys/fs/cgroup"] {
        assert!(output(&client, "cat /proc/mounts").await.contains(&format!(" {mounted} ")), "{mounted}");
    }
    assert_eq!(output(&client, "ping -c 1 -W 5 127.0.0.1 >/dev/null; echo $?").await, "0\n");
    assert_eq!(output(&client, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj").await, "-1000\n0\n");
    // Orphans are reaped.
    output(&client, "setsid sh -c 'true & true &' </dev/null >/dev/null 2>&1").await;
    let zombies = "grep -qs '^State:.Z' /proc/[0-9]*/status";
    let gone = format!("i=0; while {zombies} && [ $i -lt 200 ]; do i=$((i + 1)); sleep 0.05; done; {zombies}; echo $?");
    assert_ne!(output(&client, &gone).await, "0\n", "there are zombies");

    // A control group holds what a command starts, and goes when it is empty.
    let groups = "ls -d /sys/fs/cgroup/nexus/nexus-exec-* | wc -l";
    let mut command = sh(&format!("{DAEMONISES}; exec sleep 1000"));
    command.timeout_ms = Some(5000);
    let ran = bounded(client.run(&command)).await.unwrap();
    assert!(ran.timed_out);
    has_died(&client, &daemon(&client).await).await;
    assert_eq!(output(&client, groups).await, "1\n", "only that of the command that asks");

    stands_still_and_is_told_how_late_it_is(&vm, &client).await;
    tells_how_commands_end(&client).await;
    kills_all_that_a_vanished_client_started(&client).await;
    offers_tools(&client).await;
    shows_terminals(&client).await;
    carries_fifty_megabytes(&client).await;
    loses_nothing_for_slow_readers(&client).await;

    bounded(client.shutdown(ShutdownMode::Poweroff)).await.unwrap();
    assert_eq!(bounded(events.recv()).await, Some(Event::Ending { mode: ShutdownMode::Poweroff }));
    assert_eq!(bounded(events.recv()).await, None);
    let start = Instant::now();
    assert!(vm.wait().await.success());
    eprintln!("connection gone → QEMU ended: {:?}", start.elapsed());
    let console = vm.console();
    assert!(console.contains("reboot: Power down"), "{console}");
    assert!(!console.contains("cannot"), "{console}");
}

#[tokio::test]
async fn tells_a_reboot_from_a_poweroff() {
    let cases = [
        ("reboot", ShutdownMode::Reboot, "reboot: Restarting system"),
        ("poweroff", ShutdownMode::Poweroff, "reboot: Power down"),
    ];
    for (program, mode, last_words) in cases {
        let Some(mut vm) = Vm::start("") else { return };
        let (client, _, mut events) = vm.connect(None).await;
        // By the guest itself; busybox signals process 1.
        let asked = client.run(&Command::new([program])).await;
        assert!(matches!(asked, Ok(_) | Err(AgentError::Gone(_) | AgentError::Lost(_))), "{asked:?}");
        assert_eq!(bounded(events.recv()).await, Some(Event::Ending { mode }));
        assert!(vm.wait().await.success());
        assert!(vm.console().contains(last_words), "{}", vm.console());
    }
    let Some(mut vm) = Vm::start("") else { return };
    let (client, _, mut events) = vm.connect(None).await;
    bounded(client.shutdown(ShutdownMode::Reboot)).await.unwrap();
    assert_eq!(bounded(events.recv()).await, Some(Event::Ending { mode: ShutdownMode::Reboot }));
    assert!(vm.wait().await.success());
    assert!(vm.console().contains("reboot: Restarting system"), "{}", vm.console());
}

#[tokio::test]
async fn is_a_service_under_another_init() {
    let Some(mut vm) = Vm::start_under_busybox() else { return };
    let (client, welcome, mut events) = vm.connect(None).await;
    assert_eq!(welcome.role, Role::Service);
    assert_eq!(output(&client, "cat /proc/1/comm").await, "linuxrc\n");
    bounded(client.shutdown(ShutdownMode::Poweroff)).await.unwrap();
    assert_eq!(bounded(events.recv()).await, Some(Event::Ending { mode: ShutdownMode::Poweroff }));
    assert!(vm.wait().await.success());
    let console = vm.console();
    assert!(console.contains("the services end") && console.contains("reboot: Power down"), "{console}");
}
