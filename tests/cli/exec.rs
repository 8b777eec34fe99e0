//! Commands in a guest: their streams, signals and ends.

use std::{fs, path::Path, process::Stdio, time::Duration};

use futures_util::StreamExt;
use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, Options},
};
use nexus_tests::{Liar, Lie, PATIENCE, daemonises, has_died, pid_in};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Child,
    time::timeout,
};

use crate::said::{ctl, has, interrupt, json, ok, web};

#[tokio::test]
async fn a_commands_streams_and_end_are_nexusctls_own() {
    let (daemon, vm) = web().await;
    for (script, code, out, err) in [
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("kill -9 $$", 128 + 9, "", ""),
        ("kill -15 $$", 128 + 15, "", ""),
        ("exit 255", 255, "", ""),
        ("printf no-newline", 0, "no-newline", ""),
    ] {
        let said = ctl(&daemon, &["exec", "web", "--", "sh", "-c", script]).await;
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(code), out, err), "{script}");
    }
    let said = ctl(&daemon, &["exec", "-w", "/usr", "-e", "A=b c", "web", "sh", "-c", "pwd; echo \"$A\""]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "/usr\nb c\n"), "{said:?}");
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126), ("/no/such/path", 127)] {
        let said = ctl(&daemon, &["exec", "web", "--", program]).await;
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{program}: {said:?}");
        has(&said.err, &["Error: ", program]);
    }
    let said = ctl(&daemon, &["exec", "nobody", "--", "true"]).await;
    assert_eq!(said.code, Some(125));
    has(&said.err, &["There is no VM `nobody`"]);
    let job = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    let said = ctl(&daemon, &["exec", "web", "--", "true"]).await;
    assert_eq!(said.code, Some(125));
    has(&said.err, &["stopped", "nexusctl vm start web"]);
}

#[tokio::test]
async fn a_command_may_take_so_long_and_no_longer() {
    let (daemon, _vm) = web().await;
    let said = ctl(&daemon, &["exec", "--timeout", "500ms", "web", "--", "sh", "-c", "echo began; sleep 1000"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(124), "began\n"), "{said:?}");
    has(&said.err, &["was killed: its time was up"]);
    // What it wrote while nobody read it comes all the same.
    let script = "head -c 150000 /dev/zero; sleep 1000";
    let mut child = daemon.nexusctl(&["exec", "--timeout", "500ms", "web", "--", "sh", "-c", script]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It is full until somebody reads: a pipe holds 64 KiB.
    let early = timeout(Duration::from_secs(2), child.wait()).await;
    assert!(early.is_err(), "it has ended, and nobody has read what the command wrote");
    let mut wrote = Vec::new();
    let read = child.stdout.as_mut().unwrap().read_to_end(&mut wrote);
    assert_eq!(timeout(PATIENCE, read).await.unwrap().unwrap(), 150_000);
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(124));
    let said = ctl(&daemon, &["exec", "--timeout", "5m", "web", "--", "sh", "-c", "kill -9 $$"]).await;
    assert_eq!((said.code, said.err.as_str()), (Some(128 + 9), ""), "{said:?}");
}

/// Regression: it was started again and again, as if the guest had never heard of it.
#[tokio::test]
async fn a_command_that_may_have_been_started_is_not_started_again() {
    let (daemon, vm) = web().await;
    let liar = Liar::in_place_of(Path::new(&daemon.read(&vm).await.vsock_path), Lie::Starts);
    let agent = format!("{ROOT}/vm/web/connection/1");
    let agent = ConnectionProxy::builder(&daemon.client).path(agent).build().await.unwrap();
    agent.close().await.unwrap();
    for detach in [&[][..], &["-d"]] {
        let before = liar.starts();
        let arguments: Vec<&str> = [&["exec"], detach, &["web", "--", "true"]].concat();
        let said = ctl(&daemon, &arguments).await;
        assert_eq!(said.code, Some(125), "{said:?}");
        has(&said.err, &["lost before it answered", "is not known"]);
        assert_eq!(liar.starts(), before + 1);
    }
}

/// Regression: one that came before it was told that the guest had gone was refused.
#[tokio::test]
async fn a_command_waits_for_a_vm_that_is_started_again() {
    let (daemon, vm) = web().await;
    ok(&daemon, &["vm", "set", "web", "--restart-policy", "on-failure"]).await;
    for _ in 0..2 {
        let leader = daemon.wait(&vm, |vm| vm.guest_ready).await.leader;
        kill(Pid::from_raw(i32::try_from(leader).unwrap()), Signal::SIGKILL).unwrap();
        assert_eq!(ok(&daemon, &["exec", "web", "--", "echo", "back"]).await, "back\n");
    }
}

#[tokio::test]
async fn commands_in_a_guest_are_listed() {
    let (daemon, _vm) = web().await;
    has(&ok(&daemon, &["vm", "execs", "web"]).await, &["No commands run in VM web."]);
    let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", "echo ready; exec sleep 1000"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
    has(&ok(&daemon, &["vm", "execs", "web"]).await, &["EXEC", "sh -c echo ready; exec sleep 1000"]);
    let execs = json(&daemon, &["vm", "execs", "web"]).await;
    assert_eq!(execs[0]["argv"][0], "sh");
    let id = execs[0]["id"].to_string();
    assert_eq!(ok(&daemon, &["vm", "execs", "web", "--quiet"]).await, format!("{id}\n"));
    has(&ok(&daemon, &["vm", "signal", "web", &id, "--signal", "kill"]).await, &["Signal 9 is sent to command"]);
    let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
    assert_eq!(status.code(), Some(128 + 9));
    let said = ctl(&daemon, &["vm", "signal", "web", &id]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    ok(&daemon, &["vm", "stop", "web"]).await;
    let said = ctl(&daemon, &["vm", "execs", "web"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    has(&said.err, &["stopped", "nexusctl vm start web"]);
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let (daemon, _vm) = web().await;
    let mut bytes = vec![0_u8; 20 << 20];
    fastrand::fill(&mut bytes);
    let mut child = daemon.nexusctl(&["exec", "-i", "web", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut into = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writing = tokio::spawn(async move { into.write_all(&sent).await });
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes, "{} of {} bytes came back", output.stdout.len(), bytes.len());
}

#[tokio::test]
async fn twenty_megabytes_of_output_are_whole() {
    let (daemon, _vm) = web().await;
    let script = "i=0; while [ $i -lt 20 ]; do head -c 1048576 /dev/zero | tr '\\0' x; i=$((i+1)); done; exit 4";
    let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", script]).spawn().unwrap();
    let mut from = child.stdout.take().unwrap();
    let (mut hash, mut length, mut chunk) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        match timeout(PATIENCE, from.read(&mut chunk)).await.expect("output in time").unwrap() {
            0 => break,
            count => {
                length += count;
                hash.update(&chunk[..count]);
            }
        }
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(4));
    assert_eq!(length, 20 << 20);
    assert_eq!(hash.finalize(), Sha256::digest(vec![b'x'; 20 << 20]));
}

#[tokio::test]
async fn the_end_of_the_input_is_passed_on() {
    let (daemon, _vm) = web().await;
    let mut child = daemon.nexusctl(&["exec", "-i", "web", "--", "wc", "-c"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"12345").await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "5");
}

#[tokio::test]
async fn input_is_only_passed_on_where_that_is_asked_for() {
    let (daemon, _vm) = web().await;
    let mut child = daemon.nexusctl(&["exec", "web", "--", "wc", "-c"]).stdin(Stdio::piped()).spawn().unwrap();
    // It stays open: nobody waits for its end.
    let _into = child.stdin.take().unwrap();
    let mut out = String::new();
    let reading = child.stdout.as_mut().unwrap().read_to_string(&mut out);
    timeout(PATIENCE, reading).await.expect("output in time").unwrap();
    assert_eq!(out.trim(), "0");
}

/// Regression: a nexusctl that was killed left its command running, without anybody to read what it wrote.
#[tokio::test]
async fn a_command_does_not_outlive_its_client() {
    let (daemon, vm) = web().await;
    let note = daemon.home.path().join("note");
    let script = format!("{}; echo ready; exec sleep 1000", daemonises(&note));
    let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", &script]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
    assert_eq!(line.as_deref(), Some("ready"));
    let left = pid_in(&note).await;
    interrupt(&child, Signal::SIGKILL);
    has_died(left).await;
    let guest = daemon.guest(&vm).await;
    let ended = async { while !guest.list_execs().await.unwrap().is_empty() {} };
    timeout(PATIENCE, ended).await.expect("the command ends");
}

#[tokio::test]
async fn a_detached_command_goes_on_by_itself() {
    let (daemon, vm) = web().await;
    let note = daemon.home.path().join("note");
    let script = format!("cat; head -c 1000000 /dev/zero; echo $$ >{}; exec sleep 1000", note.display());
    let number: u64 = ok(&daemon, &["exec", "-d", "web", "--", "sh", "-c", &script]).await.trim().parse().unwrap();
    let pid = pid_in(&note).await;
    let execs = json(&daemon, &["vm", "execs", "web"]).await;
    assert_eq!(execs[0]["id"], number);
    daemon.guest(&vm).await.signal_exec(number, 15).await.unwrap();
    has_died(pid).await;
    assert_eq!(daemon.guest(&vm).await.wait_exec(number).await.unwrap(), (128 + 15, 15));
    let said = ctl(&daemon, &["exec", "-d", "web", "--", "no-such-program"]).await;
    assert_eq!(said.code, Some(127), "{said:?}");
}

#[tokio::test]
async fn signals_go_to_the_command() {
    let (daemon, vm) = web().await;
    for (script, signal, code) in [
        ("trap 'exit 42' INT; echo ready; while :; do sleep 0.05; done", Signal::SIGINT, 42),
        ("echo ready; exec sleep 1000", Signal::SIGINT, 128 + 2),
        ("echo ready; exec sleep 1000", Signal::SIGTERM, 128 + 15),
    ] {
        let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", script]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
        assert_eq!(line.as_deref(), Some("ready"));
        interrupt(&child, signal);
        let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
        assert_eq!(status.code(), Some(code), "{script} {signal}");
        assert_eq!(daemon.guest(&vm).await.list_execs().await.unwrap(), [], "{script} {signal}");
    }
}

/// Waits until a process has taken the signals that it got, and waits for what comes next.
async fn has_heard(child: &Child) {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let waits = |text: &str| {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        field("State:").starts_with('S') && field("ShdPnd:").bytes().all(|digit| digit == b'0')
    };
    let heard = async {
        while !waits(&fs::read_to_string(&status).unwrap_or_default()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, heard).await.expect("it hears");
}

/// Regression: a Ctrl-C before the guest had answered left the command running, and nobody knew of it.
#[tokio::test]
async fn a_command_that_is_interrupted_before_it_has_begun_does_not_go_on() {
    let (daemon, vm) = web().await;
    let agent = Pid::from_raw(i32::try_from(daemon.read(&vm).await.leader).unwrap());
    let monitor = daemon.bus.connect().await;
    let asked = zbus::MatchRule::builder().member("Exec").build().unwrap();
    let monitoring = zbus::fdo::MonitoringProxy::new(&monitor).await.unwrap();
    let mut calls = zbus::MessageStream::from(&monitor);
    monitoring.become_monitor(&[asked], 0).await.unwrap();

    kill(agent, Signal::SIGSTOP).unwrap();
    let mut child = daemon.nexusctl(&["exec", "web", "--", "sleep", "1000"]).spawn().unwrap();
    let is_call = |message: &zbus::Message| message.header().member().is_some_and(|member| member == "Exec");
    let called = async { while !calls.next().await.is_some_and(|message| is_call(&message.unwrap())) {} };
    timeout(PATIENCE, called).await.expect("the guest is asked");
    interrupt(&child, Signal::SIGINT);
    has_heard(&child).await;
    assert_eq!(child.try_wait().unwrap(), None);
    kill(agent, Signal::SIGCONT).unwrap();

    let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
    assert_eq!(status.code(), Some(130));
    let guest = daemon.guest(&vm).await;
    let ended = async { while !guest.list_execs().await.unwrap().is_empty() {} };
    timeout(PATIENCE, ended).await.expect("the command ends");
}

#[tokio::test]
async fn a_command_outlives_the_daemon() {
    let (daemon, _vm) = web().await;
    let go = daemon.home.path().join("go");
    let script = format!("echo ready; while [ ! -e {} ]; do sleep 0.05; done; echo done; exit 7", go.display());
    let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", &script]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
    assert_eq!(next().await.as_deref(), Some("ready"));
    let _daemon = daemon.replace().await;
    fs::write(go, "").unwrap();
    assert_eq!(next().await.as_deref(), Some("done"));
    let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
    assert_eq!(status.code(), Some(7));
}

#[tokio::test]
async fn a_command_ends_with_its_vm_and_that_is_said() {
    let (daemon, vm) = web().await;
    let child = || {
        let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", "echo began; exec sleep 1000"]);
        child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for how in ["restart", "stop"] {
        daemon.wait(&vm, |vm| vm.guest_ready).await;
        let mut child = child();
        let mut began = [0; 6];
        timeout(PATIENCE, child.stdout.as_mut().unwrap().read_exact(&mut began)).await.unwrap().unwrap();
        ok(&daemon, &["vm", how, "web"]).await;
        let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{told}");
        has(&told, &["cannot learn how the command in VM web ended", "the command ended with it"]);
    }
}
