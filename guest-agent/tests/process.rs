//! The agent as a process, driven by the host's own client.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says why it does not run")]

mod support;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    thread,
};

use nexus_host::agent::{AgentClient, AgentError};
use nexus_model::ExitStatus;
use nexus_protocol::{Command, Event, ExecState, FailureKind, MAX_RUN_OUTPUT_BYTES, Role, ShutdownMode};
use sha2::{Digest, Sha256};
use support::{Agent, PATIENCE, bounded, is_alive, is_clean, kind, pid_in, sh, signal, until};

const MEGABYTES: usize = 50;

fn read_all(fd: OwnedFd) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).unwrap();
        bytes
    })
}

async fn joined<T: Send + 'static>(handle: thread::JoinHandle<T>) -> T {
    bounded(tokio::task::spawn_blocking(move || handle.join().unwrap())).await.unwrap()
}

/// Bytes without a pattern that a lost or doubled block would fit into.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn introduces_itself() {
    let agent = Agent::start();
    let (client, welcome, _events) = agent.connect().await;
    assert_eq!(welcome.role, Role::Process);
    assert_eq!(welcome.agent_version.as_str(), env!("CARGO_PKG_VERSION"));
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(welcome.boot_id.as_str(), boot_id.trim());
    let hostname = nix::unistd::gethostname().unwrap();
    assert_eq!(welcome.hostname.as_str(), hostname.to_str().unwrap());
    assert!(welcome.uptime_us > 0);
    bounded(client.ping()).await.unwrap();
}

#[tokio::test]
async fn runs_commands_and_tells_how_they_ended() {
    let agent = Agent::start();
    let client = agent.client().await;
    let ran = bounded(client.run(&sh("echo out; echo err >&2; exit 7"))).await.unwrap();
    assert_eq!(ran.status, ExitStatus::Code(7));
    assert_eq!((ran.stdout.as_slice(), ran.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert!(!ran.truncated && !ran.timed_out);

    let ran = bounded(client.run(&sh("kill -9 $$"))).await.unwrap();
    assert_eq!(ran.status, ExitStatus::Signal(9));
    let ran = bounded(client.run(&sh("kill -35 $$"))).await.unwrap();
    assert_eq!(ran.status, ExitStatus::Signal(35), "a real-time signal");
    // No input, and none that it could take from the agent.
    let ran = bounded(client.run(&Command::new(["cat"]))).await.unwrap();
    assert_eq!((ran.status, ran.stdout.len()), (ExitStatus::Code(0), 0));
}

#[tokio::test]
async fn gives_commands_environment_folder_and_user() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut command = sh("pwd; echo \"$GREETING/$HOME\"; id -u; ulimit -Sn; cat /proc/self/oom_score_adj");
    command.cwd = Some("/usr".to_owned());
    command.env.insert("GREETING".to_owned(), "hello".to_owned());
    command.env.insert("HOME".to_owned(), "/nowhere".to_owned());
    let own = |what: &str| {
        let output = std::process::Command::new("/bin/sh").args(["-c", what]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let limits = own("ulimit -Sn; cat /proc/self/oom_score_adj");

    let ran = bounded(client.run(&command)).await.unwrap();
    let uid = own("id -u");
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("/usr\nhello//nowhere\n{uid}{limits}"));

    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: running a command as another user is not tested");
        return;
    }
    command.argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), "id -un; id -G".to_owned()];
    for user in ["nobody", "65534"] {
        command.user = Some(user.to_owned());
        let ran = bounded(client.run(&command)).await.unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), "nobody\n65534\n");
    }
}

#[tokio::test]
async fn says_what_is_wrong_with_a_command() {
    let agent = Agent::start();
    let client = agent.client().await;
    assert_eq!(kind(client.run(&Command::new(["no-such-program"])).await), FailureKind::NotFound);
    assert_eq!(kind(client.exec(&Command::new(["/no/such/program"]), None).await), FailureKind::NotFound);
    assert_eq!(kind(client.run(&Command::new(["/etc/passwd"])).await), FailureKind::NotExecutable);
    assert_eq!(kind(client.run(&Command::new(["/usr"])).await), FailureKind::NotExecutable);
    let mut command = sh("true");
    command.cwd = Some("/no/such/folder".to_owned());
    assert_eq!(kind(client.run(&command).await), FailureKind::Invalid);
    let mut command = sh("true");
    command.user = Some("no-such-user".to_owned());
    assert_eq!(kind(client.run(&command).await), FailureKind::Invalid);
    assert!(matches!(client.run(&Command::default()).await, Err(AgentError::InvalidCommand(_))));
    assert!(matches!(client.run(&Command::new(["a\0b"])).await, Err(AgentError::InvalidCommand(_))));
    bounded(client.ping()).await.unwrap();
}

#[tokio::test]
async fn keeps_the_beginning_of_much_output() {
    let agent = Agent::start();
    let client = agent.client().await;
    let script = "head -c 200000 /dev/zero; head -c 1000000 /dev/zero >&2; echo end";
    let ran = bounded(client.run(&sh(script))).await.unwrap();
    assert!(ran.truncated);
    assert_eq!(ran.status, ExitStatus::Code(0));
    assert_eq!(ran.stdout.len() + ran.stderr.len(), MAX_RUN_OUTPUT_BYTES);
    // Exactly as much as is kept is not too much.
    let ran = bounded(client.run(&sh(&format!("head -c {MAX_RUN_OUTPUT_BYTES} /dev/zero")))).await.unwrap();
    assert!(!ran.truncated);
    assert_eq!(ran.stdout.len(), MAX_RUN_OUTPUT_BYTES);
}

#[tokio::test]
async fn does_not_wait_for_what_a_command_leaves_behind() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let command = sh(&format!("sleep 1000 & echo $! >{}; echo done", note.display()));
    assert_eq!(bounded(client.run(&command)).await.unwrap().stdout, b"done\n");
    let left = pid_in(&note).await;
    assert!(is_alive(left), "what ends by itself leaves its children alone");
    signal(left, libc::SIGKILL);
}

/// A script whose grandchild leaves session and process group, writes its pid into `note` and stays.
fn daemonises(note: &std::path::Path) -> String {
    format!("setsid -f sh -c 'echo $$ >{}; exec sleep 1000'", note.display())
}

#[tokio::test]
async fn a_timeout_kills_even_daemons() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let mut command = sh(&format!("{}; exec sleep 1000", daemonises(&note)));
    command.timeout_ms = Some(1500);
    let ran = bounded(client.run(&command)).await.unwrap();
    assert!(ran.timed_out);
    assert_eq!(ran.status, ExitStatus::Signal(9));
    let daemon = pid_in(&note).await;
    until("the daemon is dead", || !is_alive(daemon)).await;

    let exec = client.exec(&command, None).await.unwrap();
    let ended = bounded(client.wait_exec(exec.id)).await;
    assert!(matches!(ended, Err(AgentError::TimeUp)), "{ended:?}");
}

#[tokio::test]
async fn a_caller_that_leaves_kills_its_run() {
    let agent = Agent::start();
    let (client, _, _events) = agent.connect().await;
    for leave_connection in [false, true] {
        let note = agent.folder.path().join(format!("note-{leave_connection}"));
        let script = format!("{}; exec sleep 1000", daemonises(&note));
        let caller = if leave_connection { agent.client().await } else { client.clone() };
        let run = tokio::spawn(async move { caller.run(&sh(&script)).await });
        let daemon = pid_in(&note).await;
        run.abort();
        until("the daemon is dead", || !is_alive(daemon)).await;
    }
    bounded(client.ping()).await.unwrap();
}

#[tokio::test]
async fn carries_fifty_megabytes_out() {
    let agent = Agent::start();
    let client = agent.client().await;
    let file = agent.folder.path().join("noise");
    let bytes = noise(MEGABYTES * 1_000_000);
    std::fs::write(&file, &bytes).unwrap();
    let exec = client.exec(&sh(&format!("cat {0}; cat {0} >&2", file.display())), None).await.unwrap();
    drop(exec.stdin);
    let (stdout, stderr) = (read_all(exec.stdout), read_all(exec.stderr));
    assert!(joined(stdout).await == bytes, "stdout differs");
    assert!(joined(stderr).await == bytes, "stderr differs");
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn carries_fifty_megabytes_in() {
    let agent = Agent::start();
    let client = agent.client().await;
    let bytes = noise(MEGABYTES * 1_000_000);
    let digest: String = Sha256::digest(&bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let wanted = format!("{digest}  -\n");
    for (program, expected) in [("sha256sum", wanted.into_bytes()), ("cat", bytes.clone())] {
        let exec = client.exec(&Command::new([program]), None).await.unwrap();
        let stdout = read_all(exec.stdout);
        let to_write = bytes.clone();
        let writer = thread::spawn(move || File::from(exec.stdin).write_all(&to_write).unwrap());
        joined(writer).await;
        assert!(joined(stdout).await == expected, "{program}");
        assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Code(0));
    }
}

#[tokio::test]
async fn signals_commands_and_remembers_their_end() {
    let agent = Agent::start();
    let client = agent.client().await;
    let exec = client.exec(&Command::new(["sleep", "1000"]), None).await.unwrap();
    let listed = bounded(client.list_execs()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].exec, listed[0].state), (exec.id, ExecState::Running));
    assert_eq!(listed[0].argv.iter().map(|argument| argument.as_str()).collect::<Vec<_>>(), ["sleep", "1000"]);

    bounded(client.signal_exec(exec.id, libc::SIGTERM)).await.unwrap();
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Signal(15));
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Signal(15));
    assert!(matches!(bounded(client.list_execs()).await.unwrap()[0].state, ExecState::Ended(_)));
    assert_eq!(kind(client.signal_exec(exec.id, libc::SIGTERM).await), FailureKind::NotFound);
    assert_eq!(kind(client.signal_exec(exec.id, 0).await), FailureKind::Invalid);
    assert_eq!(kind(client.signal_exec(exec.id, 65).await), FailureKind::Invalid);
    assert_eq!(kind(client.signal_exec(exec.id + 1, 9).await), FailureKind::NotFound);
    assert_eq!(kind(client.wait_exec(exec.id + 1).await), FailureKind::NotFound);
}

#[tokio::test]
async fn signal_9_reaches_what_a_command_left_behind() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let exec = client.exec(&sh(&daemonises(&note)), None).await.unwrap();
    let (id, daemon) = (exec.id, pid_in(&note).await);
    assert_eq!(bounded(client.wait_exec(id)).await.unwrap(), ExitStatus::Code(0));
    drop(exec);
    bounded(client.ping()).await.unwrap();
    assert!(is_alive(daemon), "what ends by itself leaves its children alone");
    bounded(client.signal_exec(id, libc::SIGKILL)).await.unwrap();
    until("the daemon is dead", || !is_alive(daemon)).await;
}

#[tokio::test]
async fn closed_streams_look_like_closed_pipes() {
    let agent = Agent::start();
    let client = agent.client().await;
    let exec = client.exec(&Command::new(["yes"]), None).await.unwrap();
    drop(exec.stdout);
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Signal(13));
    // The other way: a command that closes its input.
    let exec = client.exec(&sh("exec <&-; sleep 1000"), None).await.unwrap();
    let stdin = exec.stdin;
    let writer = thread::spawn(move || {
        let mut stdin = File::from(stdin);
        while stdin.write_all(&[0; 4096]).is_ok() {}
    });
    joined(writer).await;
    bounded(client.signal_exec(exec.id, 9)).await.unwrap();
}

#[tokio::test]
async fn a_command_dies_with_its_last_stream() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let script = format!("{}; echo ready; while read line; do :; done; exec sleep 1000", daemonises(&note));
    let exec = client.exec(&sh(&script), None).await.unwrap();
    let daemon = pid_in(&note).await;
    drop(exec.stdin);
    let mut ready = [0; 6];
    let mut stdout = File::from(exec.stdout);
    stdout.read_exact(&mut ready).unwrap();
    drop(stdout);
    bounded(client.ping()).await.unwrap();
    assert!(is_alive(daemon), "somebody has its errors");
    drop(exec.stderr);
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Signal(9));
    until("the daemon is dead", || !is_alive(daemon)).await;
}

#[tokio::test]
async fn a_command_may_close_its_own_outputs() {
    let agent = Agent::start();
    let client = agent.client().await;
    let go = agent.folder.path().join("go");
    let script = format!("exec >&- 2>&-; while [ ! -e {} ]; do sleep 0.05; done; exit 7", go.display());
    let closes = sh(&script);

    let exec = client.exec(&closes, None).await.unwrap();
    drop(exec.stdin);
    let outputs = [read_all(exec.stdout), read_all(exec.stderr)];
    until("one output has ended", || outputs.iter().any(thread::JoinHandle::is_finished)).await;
    bounded(client.ping()).await.unwrap();
    std::fs::write(&go, "").unwrap();
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Code(7));
    for output in outputs {
        assert_eq!(joined(output).await, b"");
    }

    // The other output is kept open, so that its client can be seen to leave.
    std::fs::remove_file(go).unwrap();
    let exec = client.exec(&closes, None).await.unwrap();
    let (id, outputs) = (exec.id, [exec.stdout, exec.stderr]);
    drop(exec.stdin);
    let ended = |output: &OwnedFd| {
        let mut polled = [nix::poll::PollFd::new(output.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO).unwrap() > 0
    };
    until("one output has ended", || outputs.iter().any(ended)).await;
    drop(outputs);
    assert_eq!(bounded(client.wait_exec(id)).await.unwrap(), ExitStatus::Signal(9));
}

#[tokio::test]
async fn a_client_that_leaves_input_behind_has_left_all_the_same() {
    let agent = Agent::start();
    let client = agent.client().await;
    let exec = client.exec(&Command::new(["sleep", "1000"]), None).await.unwrap();
    let stdin = File::from(exec.stdin);
    let writer = thread::spawn(move || {
        let mut stdin = stdin;
        while stdin.write_all(&[0; 4096]).is_ok() {}
    });
    drop((exec.stdout, exec.stderr));
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Signal(9));
    joined(writer).await;
}

#[tokio::test]
async fn a_detached_command_needs_nobody_who_reads() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let script = format!("cat; head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; echo $$ >{}", note.display());
    let exec = client.detach(&sh(&script)).await.unwrap();
    assert_eq!(bounded(client.wait_exec(exec)).await.unwrap(), ExitStatus::Code(0));
    pid_in(&note).await;
    let exec = client.detach(&Command::new(["sleep", "1000"])).await.unwrap();
    bounded(client.signal_exec(exec, libc::SIGTERM)).await.unwrap();
    assert_eq!(bounded(client.wait_exec(exec)).await.unwrap(), ExitStatus::Signal(15));
}

#[tokio::test]
async fn commands_outlive_their_connection() {
    let agent = Agent::start();
    let (client, _, events) = agent.connect().await;
    let exec = client.exec(&sh("read line; echo \"$line\"; exit 3"), None).await.unwrap();
    drop((client, events));
    let client = agent.client().await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.wait_exec(exec.id).await })
    };
    File::from(exec.stdin).write_all(b"still here\n").unwrap();
    assert_eq!(joined(read_all(exec.stdout)).await, b"still here\n");
    assert_eq!(bounded(waiting).await.unwrap().unwrap(), ExitStatus::Code(3));
}

#[tokio::test]
async fn a_new_agent_takes_the_place_of_a_killed_one() {
    let mut agent = Agent::start();
    let (client, before, mut events) = agent.connect().await;
    let exec = client.exec(&Command::new(["sleep", "1000"]), None).await.unwrap();
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.wait_exec(exec.id).await })
    };
    bounded(client.ping()).await.unwrap();
    agent.restart();
    assert_eq!(bounded(events.recv()).await, None);
    assert!(events.disconnect().is_some());
    assert!(matches!(bounded(waiting).await.unwrap(), Err(AgentError::Gone(_))));
    assert!(matches!(client.ping().await, Err(AgentError::Gone(_))));
    // Its streams have ended as well.
    assert_eq!(joined(read_all(exec.stdout)).await, b"");

    let (client, after, _events) = agent.connect().await;
    assert_ne!(before.run_id, after.run_id);
    assert_eq!(before.boot_id, after.boot_id);
    assert_eq!(kind(client.wait_exec(exec.id).await), FailureKind::NotFound);
}

async fn one_of_many(client: AgentClient, number: usize) {
    let exec = client.exec(&sh(&format!("cat; echo {number} >&2; exit {}", number % 256)), None).await.unwrap();
    let bytes = noise(10_000 + number);
    let (stdout, stderr) = (read_all(exec.stdout), read_all(exec.stderr));
    let to_write = bytes.clone();
    joined(thread::spawn(move || File::from(exec.stdin).write_all(&to_write).unwrap())).await;
    assert!(joined(stdout).await == bytes);
    assert_eq!(joined(stderr).await, format!("{number}\n").into_bytes());
    let code = i32::try_from(number % 256).unwrap();
    assert_eq!(bounded(client.wait_exec(exec.id)).await.unwrap(), ExitStatus::Code(code));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_commands_at_a_time() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut all = tokio::task::JoinSet::new();
    for number in 0..100 {
        all.spawn(one_of_many(client.clone(), number));
    }
    while let Some(one) = bounded(all.join_next()).await {
        one.unwrap();
    }
    assert_eq!(bounded(client.list_execs()).await.unwrap().len(), 100);
}

#[tokio::test]
async fn remembers_the_newest_256_and_bounds_the_list() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut first = None;
    // Arguments that need the most room in JSON.
    let long = "\u{1}".repeat(1000);
    for _ in 0..260 {
        let exec = client.exec(&Command::new(["true", &long]), None).await.unwrap();
        bounded(client.wait_exec(exec.id)).await.unwrap();
        first.get_or_insert(exec.id);
    }
    assert_eq!(bounded(client.list_execs()).await.unwrap().len(), 256);
    assert_eq!(kind(client.wait_exec(first.unwrap()).await), FailureKind::NotFound);
}

#[tokio::test]
async fn shuts_down_in_order() {
    for by_signal in [false, true] {
        let mut agent = Agent::start();
        let (client, _, mut events) = agent.connect().await;
        let exec_note = agent.folder.path().join("exec");
        let run_note = agent.folder.path().join("run");
        let exec = client.exec(&sh(&daemonises(&exec_note)), None).await.unwrap();
        let runner = client.clone();
        let script = format!("{}; sleep 1000", daemonises(&run_note));
        let run = tokio::spawn(async move { runner.run(&sh(&script)).await });
        let left = [pid_in(&exec_note).await, pid_in(&run_note).await];

        let mode = if by_signal {
            signal(agent.pid(), libc::SIGTERM);
            ShutdownMode::Poweroff
        } else {
            bounded(client.shutdown(ShutdownMode::Reboot)).await.unwrap();
            ShutdownMode::Reboot
        };
        assert_eq!(bounded(events.recv()).await, Some(Event::Ending { mode }));
        assert_eq!(bounded(events.recv()).await, None);
        assert!(is_clean(agent.wait().await));
        assert!(bounded(run).await.unwrap().is_err());
        for pid in left {
            until("nothing is left", || !is_alive(pid)).await;
        }
        assert!(!agent.socket().exists());
        drop(exec);
    }
}

#[tokio::test]
async fn refuses_a_folder_that_another_agent_has() {
    let agent = Agent::start();
    let client = agent.client().await;
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_guest-agent"))
        .arg("--process")
        .arg(agent.folder.path())
        .kill_on_drop(true)
        .output();
    let second = bounded(second).await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent listens there"));
    bounded(client.ping()).await.unwrap();
}

#[tokio::test]
async fn connecting_to_nobody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = nexus_host::vsock::Endpoint::Hybrid { socket: folder.path().join("vsock.sock") };
    assert!(matches!(AgentClient::connect(&endpoint, None, PATIENCE).await, Err(AgentError::Unreachable(_))));
}
