//! nexusctl against a real daemon: what its users type, what they read, and the exit codes that their scripts rely on.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{fmt::Write as _, fs, os::unix::process::ExitStatusExt, path::Path, process::Stdio, sync::Arc};

use futures_util::StreamExt;
use nexus_dbus::client::{Options, objects};
use nexus_host::{asset::import_kernel, storage::Progress};
use nexus_tests::{GuestParts, Home, PATIENCE, TestBus, TestDaemon, VmPath};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How a command ended, and what it wrote.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn run(mut command: Command) -> Said {
    let output = timeout(PATIENCE, command.output()).await.expect("nexusctl ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn ctl(daemon: &TestDaemon, arguments: &[&str]) -> Said {
    run(daemon.nexusctl(arguments)).await
}

/// What it writes when all is well.
async fn ok(daemon: &TestDaemon, arguments: &[&str]) -> String {
    let said = ctl(daemon, arguments).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}: {said:?}");
    said.out
}

async fn json(daemon: &TestDaemon, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&ok(daemon, &arguments).await).unwrap()
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

/// A daemon with an image `base`.
async fn with_image() -> TestDaemon {
    let daemon = TestDaemon::start().await;
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/os-release"), "ID=tiny\nNAME=tiny\nVERSION_ID=7\n").unwrap();
    fs::create_dir(folder.join("sbin")).unwrap();
    std::os::unix::fs::symlink("../lib/not-here", folder.join("sbin/init")).unwrap();
    let said = ok(&daemon, &["image", "import", folder.to_str().unwrap(), "base", "--size", "4M"]).await;
    has(&said, &["Image base is there."]);
    daemon
}

async fn web() -> (TestDaemon, VmPath) {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    (daemon, vm)
}

fn interrupt(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
}

/// Waits until there is no VM and no disk any more.
async fn nothing_left(daemon: &TestDaemon) {
    let mut signals = nexus_tests::Signals::of(&daemon.client).await;
    let gone = async {
        loop {
            let all = objects(&daemon.client).await.unwrap();
            if all.values().all(|object| object.vm.is_none() && object.workspace.is_none()) {
                return;
            }
            signals.next().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the VM goes");
    let kept = ["images", "assets"].map(|folder| daemon.home.data().join(folder));
    let is_kept = |path: &Path| kept.iter().any(|folder| path.starts_with(folder));
    let left: Vec<_> = daemon.home.things().into_iter().filter(|path| !is_kept(path)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(daemon.home.processes().is_empty());
}

#[tokio::test]
async fn where_there_is_nothing_it_says_what_to_do() {
    let daemon = TestDaemon::start().await;
    for (arguments, words) in [
        (["vm", "list"], ["No VMs yet.", "nexusctl vm create"]),
        (["image", "list"], ["No images yet.", "nexusctl image import"]),
        (["ws", "list"], ["No workspaces yet.", "nexusctl ws create"]),
        (["kernel", "list"], ["No kernels yet.", "nexusctl kernel import"]),
        (["job", "list"], ["No jobs", ""]),
    ] {
        has(&ok(&daemon, &arguments).await, &words);
        assert_eq!(json(&daemon, &arguments).await, Value::Array(Vec::new()), "{arguments:?}");
    }
}

#[tokio::test]
async fn without_a_terminal_progress_is_shown_when_it_is_asked_for() {
    let daemon = with_image().await;
    daemon.create("web", []).await;
    let mut start = daemon.nexusctl(&["vm", "start", "web"]);
    start.env("NEXUSCTL_PROGRESS", "plain");
    let said = run(start).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    has(&said.err, &["Starting web: "]);
    ok(&daemon, &["vm", "stop", "web"]).await;
    // Which `ok` finds silent.
    ok(&daemon, &["vm", "start", "web"]).await;
}

/// Regression: each count of bytes and each percent was a line.
#[tokio::test]
async fn progress_in_lines_is_a_line_a_stage() {
    let daemon = TestDaemon::start().await;
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("sbin")).unwrap();
    fs::write(folder.join("sbin/init"), "").unwrap();
    fs::File::create(folder.join("large")).unwrap().set_len(64 << 20).unwrap();
    let mut import = daemon.nexusctl(&["image", "import", folder.to_str().unwrap(), "base"]);
    import.env("NEXUSCTL_PROGRESS", "plain");
    let said = run(import).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    // An import has no stages, so that it is one line.
    assert_eq!(said.err, "Importing base\n");
}

#[tokio::test]
async fn status_version_doctor_and_tree_show_the_daemon() {
    let daemon = with_image().await;
    daemon.run("web", []).await;
    let status = ok(&daemon, &["status"]).await;
    let database = daemon.home.database();
    has(&status, &["running", "1, 1 running", "schema ", " tables", "copy with ", database.to_str().unwrap()]);
    let status = json(&daemon, &["status"]).await;
    assert_eq!(status["state"], "running");
    assert_eq!(
        (&status["vm_count"], &status["running_vm_count"], &status["image_count"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(status["database_path"], database.to_str().unwrap());
    assert!(status["schema_version"].as_u64() >= Some(1) && status["table_count"].as_u64() >= Some(1), "{status}");

    let version = json(&daemon, &["version"]).await;
    assert_eq!(version["nexusctl"], version["nexusd"], "{version}");

    // Whether this machine has a VMM is not what is tested here.
    let doctor = ctl(&daemon, &["doctor"]).await;
    assert!(matches!(doctor.code, Some(0 | 1)), "{doctor:?}");
    has(&doctor.out, &["session-bus", "nexusd", "qemu"]);
    let doctor = ctl(&daemon, &["doctor", "-o", "json"]).await;
    let checks: Vec<Value> = serde_json::from_str(&doctor.out).unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = ["session-bus", "nexusd", "kvm", "user-namespaces", "firecracker", "qemu", "vhost-vsock"];
    assert_eq!(names, [&expected[..], &["vhost-device-vsock", "process", "vmm", "kernel"]].concat());

    let tree = ok(&daemon, &["tree"]).await;
    let parts = ["store", "assets", "images", "workspaces", "vms", "web", "jobs", "reaper", "bus"];
    has(&tree, &parts);
    // The order of their start.
    assert!(parts.is_sorted_by_key(|part| tree.find(&format!("─ {part}"))), "{tree}");
    let tree = json(&daemon, &["tree"]).await;
    let names = |actor: &Value| -> Vec<String> {
        actor["children"].as_array().unwrap().iter().map(|child| child["name"].as_str().unwrap().to_owned()).collect()
    };
    let [root] = tree.as_array().unwrap().as_slice() else { panic!("{tree}") };
    assert_eq!(
        (&root["name"], &root["strategy"], &root["health"]),
        (&"root".into(), &"rest-for-one".into(), &"ok".into())
    );
    assert_eq!(names(root), ["store", "assets", "images", "workspaces", "vms", "jobs", "reaper", "bus"]);
    let vms = &root["children"][4];
    assert_eq!(names(vms), ["web"]);
    assert_eq!(names(&vms["children"][0]), ["machine", "connections"]);
    let connections = &vms["children"][0]["children"][1];
    assert_eq!(
        (&connections["strategy"], names(connections)),
        (&"one-for-one".into(), vec!["connection 1".to_owned()])
    );
    assert_eq!(vms["children"][0]["children"][0]["path"], "/org/workfort/Nexus1/vm/web");
}

#[tokio::test]
async fn images_and_workspaces_come_and_go() {
    let daemon = with_image().await;
    has(&ok(&daemon, &["image", "list"]).await, &["NAME", "base", "tiny 7"]);
    assert_eq!(ok(&daemon, &["image", "list", "-q"]).await, "base\n");
    let image = json(&daemon, &["image", "inspect", "base"]).await;
    assert_eq!((&image["name"], &image["os_name"]), (&"base".into(), &"tiny".into()));
    assert_eq!(image["digest"].as_str().unwrap().len(), 64);
    has(&ok(&daemon, &["image", "inspect", "base"]).await, &["sha256:", "tiny 7"]);

    has(&ok(&daemon, &["ws", "create", "disk", "--base", "base"]).await, &["disk"]);
    assert_eq!(ok(&daemon, &["ws", "create", "other", "--base", "base", "--quiet"]).await, "other\n");
    has(&ok(&daemon, &["workspace", "list"]).await, &["disk", "other", "base"]);
    let disk = json(&daemon, &["ws", "inspect", "disk"]).await;
    assert_eq!((&disk["name"], &disk["base"], &disk["vm"]), (&"disk".into(), &"base".into(), &Value::Null));

    let refused = ctl(&daemon, &["image", "delete", "base", "--yes"]).await;
    assert_eq!(refused.code, Some(1));
    has(&refused.err, &["Error: cannot delete image base", "disk"]);
    // Without somebody to ask it does nothing.
    let refused = ctl(&daemon, &["ws", "delete", "disk"]).await;
    assert_eq!(refused.code, Some(2));
    has(&refused.err, &["--yes"]);
    assert_eq!(ok(&daemon, &["ws", "list", "-q"]).await, "disk\nother\n");

    ok(&daemon, &["ws", "delete", "disk", "other", "--yes"]).await;
    ok(&daemon, &["image", "delete", "base", "--yes"]).await;
    assert_eq!(ok(&daemon, &["image", "list", "-q"]).await, "");
    let left: Vec<_> = daemon.home.things().into_iter().filter(|path| path.is_file()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_image_that_would_not_boot_is_imported_with_a_warning() {
    let daemon = TestDaemon::start().await;
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("bin")).unwrap();
    let said = ctl(&daemon, &["image", "import", folder.to_str().unwrap(), "base", "-q"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "base\n"), "{said:?}");
    assert!(said.err.starts_with("Warning: ") && said.err.contains("/sbin/init"), "{said:?}");
}

#[tokio::test]
async fn a_vm_goes_through_its_life() {
    let daemon = with_image().await;
    let create = ["vm", "create", "web", "--vmm", "process", "--image", "base", "-e", "WORD=hello", "--tag", "a"];
    has(&ok(&daemon, &create).await, &["VM web is there."]);
    assert_eq!(ok(&daemon, &["vm", "create", "db", "--vmm", "process", "-q"]).await, "db\n");
    has(&ok(&daemon, &["vm", "start", "web", "db"]).await, &["VM web is started", "VM db is started"]);
    has(&ok(&daemon, &["vm", "list"]).await, &["web", "db", "running", "process (not isolated)"]);

    let row = json(&daemon, &["vm", "inspect", "web"]).await;
    let pid = row["pid"].as_u64().unwrap();
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    assert_eq!((&row["state"], &row["guest_ready"]), (&"running".into(), &true.into()));
    has(&ok(&daemon, &["vm", "inspect", "web"]).await, &[&pid.to_string(), "vsock.sock", "console.log", "web"]);

    ok(&daemon, &["vm", "pause", "web"]).await;
    assert_eq!(json(&daemon, &["vm", "inspect", "web"]).await["state"], "paused");
    ok(&daemon, &["vm", "resume", "web"]).await;
    assert_eq!(ok(&daemon, &["exec", "web", "--", "sh", "-c", "echo $WORD"]).await, "hello\n");

    ok(&daemon, &["vm", "restart", "web"]).await;
    assert_ne!(json(&daemon, &["vm", "inspect", "web"]).await["pid"].as_u64().unwrap(), pid);
    ok(&daemon, &["vm", "stop", "web"]).await;
    ok(&daemon, &["vm", "kill", "db", "--yes"]).await;
    let states: Vec<Value> =
        json(&daemon, &["vm", "list"]).await.as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["stopped", "stopped"]);
    let history = ok(&daemon, &["vm", "history", "web"]).await;
    has(&history, &["starting", "running", "paused", "stopping", "stopped"]);
    assert_eq!(ctl(&daemon, &["vm", "logs", "web"]).await.code, Some(0));
    ok(&daemon, &["vm", "create", "new", "--vmm", "process"]).await;
    let said = ctl(&daemon, &["vm", "logs", "new"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    has(&said.err, &["Nothing was written to the console of VM new."]);
    assert_eq!(json(&daemon, &["vm", "inspect", "new"]).await["exit_code"], Value::Null);
    assert!(json(&daemon, &["vm", "inspect", "web"]).await["exit_code"].is_i64());
    // What it would run by is known, and that it never did.
    has(&ok(&daemon, &["vm", "inspect", "new"]).await, &["process (not isolated)"]);
    let said = ctl(&daemon, &["exec", "new", "--", "true"]).await;
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(125), "Error: VM new was never started\n  Start it: nexusctl vm start new\n")
    );
    for verb in ["stop", "kill"] {
        let arguments = if verb == "kill" { vec!["vm", verb, "new", "--yes"] } else { vec!["vm", verb, "new"] };
        assert_eq!(ok(&daemon, &arguments).await, "VM new was not running.\n");
    }
    ok(&daemon, &["vm", "delete", "new", "--yes"]).await;
    let said = ctl(&daemon, &["vm", "history", "new"]).await;
    has(&said.err, &["There is no VM `new`", "nexusctl events --vm new"]);
    has(&ok(&daemon, &["events", "--vm", "new"]).await, &["vm-created", "vm-removed"]);
    for verb in ["events", "audit"] {
        let said = ctl(&daemon, &[verb, "--vm", "nobody"]).await;
        has(&said.out, &["of VM nobody ", "is kept."]);
        has(&said.err, &["There is no VM nobody now", "removed", "nexusctl vm list"]);
    }

    // What is there already, runs not, or is not there at all.
    for (arguments, words) in [
        (&["vm", "create", "web", "--vmm", "process"][..], &["Error: cannot create VM web", "already"][..]),
        (&["vm", "pause", "web"], &["Error: cannot pause VM web", "stopped"]),
        (&["vm", "start", "nobody"], &["Error: cannot start VM nobody", "There is no VM `nobody`", "nexusctl vm list"]),
        (&["vm", "create", "Web"], &["Error: cannot create VM Web", "name"]),
    ] {
        let said = ctl(&daemon, arguments).await;
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        has(&said.err, words);
    }

    let refused = ctl(&daemon, &["vm", "delete", "web"]).await;
    assert_eq!(refused.code, Some(2));
    assert_eq!(ok(&daemon, &["vm", "list", "-q"]).await, "db\nweb\n");
    has(&ok(&daemon, &["vm", "delete", "db", "--yes"]).await, &["VM db is deleted."]);
    let said = ok(&daemon, &["vm", "delete", "web", "--yes"]).await;
    has(&said, &["its workspace stays: web"]);
    ok(&daemon, &["ws", "delete", "web", "--yes"]).await;
    nothing_left(&daemon).await;
}

#[tokio::test]
async fn settings_are_changed_and_failures_forgotten() {
    let (daemon, vm) = web().await;
    let refused = ctl(&daemon, &["vm", "set", "web"]).await;
    assert_eq!(refused.code, Some(2));
    has(&refused.err, &["--restart-policy", "--autostart"]);
    let set = ["vm", "set", "web", "--restart-policy", "no", "--autostart", "yes"];
    assert_eq!(
        ok(&daemon, &set).await,
        "Restart policy of VM web is no; it was on-failure.\nAutostart of VM web is yes; it was no.\n"
    );
    let row = json(&daemon, &["vm", "inspect", "web"]).await;
    assert_eq!((&row["restart_policy"], &row["autostart"]), (&"no".into(), &true.into()));
    let audit = ok(&daemon, &["audit", "--vm", "web"]).await;
    has(&audit, &["RestartPolicy = no", "Autostart = true"]);
    has(&ok(&daemon, &["events", "--vm", "web"]).await, &["vm-changed", "on-failure → no", "restart policy"]);

    // What has crashed teaches what to do.
    kill(Pid::from_raw(i32::try_from(daemon.read(&vm).await.leader).unwrap()), Signal::SIGKILL).unwrap();
    daemon.wait(&vm, |vm| vm.state == "crashed").await;
    let said = ctl(&daemon, &["exec", "web", "--", "true"]).await;
    assert_eq!(said.code, Some(125), "{said:?}");
    has(&said.err, &["VM web is crashed", "signal 9", "nexusctl vm history web", "nexusctl vm start web"]);
    has(&ok(&daemon, &["vm", "inspect", "web"]).await, &["Failures:        1 in all"]);
    assert_eq!(ok(&daemon, &["vm", "reset-failed", "web"]).await, "The failures of VM web are forgotten.\n");
    let said = ok(&daemon, &["vm", "stop", "web"]).await;
    assert_eq!(said, "VM web was not running, and is not started again by itself.\n");
    // They are those since it was made, of whichever daemon.
    let daemon = daemon.replace().await;
    has(&ok(&daemon, &["vm", "inspect", "web"]).await, &["Failures:        1 in all"]);
}

#[tokio::test]
async fn jobs_are_listed_awaited_and_cancelled() {
    let (daemon, _vm) = web().await;
    let jobs = json(&daemon, &["job", "list"]).await;
    let job = jobs[0]["id"].as_u64().unwrap().to_string();
    assert_eq!((&jobs[0]["kind"], &jobs[0]["state"]), (&"start-vm".into(), &"done".into()));
    has(&ok(&daemon, &["job", "list"]).await, &["start-vm", "done"]);
    assert_eq!(ctl(&daemon, &["job", "wait", &job]).await.code, Some(0));
    let said = ctl(&daemon, &["job", "cancel", &job]).await;
    assert_eq!(said.code, Some(1));
    has(&said.err, &["has ended", "done"]);
    let said = ctl(&daemon, &["job", "wait", "4711"]).await;
    assert_eq!(said.code, Some(1));
    has(&said.err, &["4711"]);
}

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
async fn commands_in_a_guest_are_listed() {
    let (daemon, vm) = web().await;
    has(&ok(&daemon, &["vm", "execs", "web"]).await, &["No commands run in VM web."]);
    let mut child = daemon.nexusctl(&["exec", "web", "--", "sh", "-c", "echo ready; exec sleep 1000"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
    has(&ok(&daemon, &["vm", "execs", "web"]).await, &["EXEC", "sh -c echo ready; exec sleep 1000"]);
    let execs = json(&daemon, &["vm", "execs", "web"]).await;
    assert_eq!(execs[0]["argv"][0], "sh");
    daemon.guest(&vm).await.signal_exec(execs[0]["id"].as_u64().unwrap(), 9).await.unwrap();
    let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
    assert_eq!(status.code(), Some(128 + 9));
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
    let mut child = daemon.nexusctl(&["exec", "web", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
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
    let mut child = daemon.nexusctl(&["exec", "web", "--", "wc", "-c"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"12345").await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "5");
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

/// How many descriptors of a process are for watching files.
fn file_watches(pid: Pid) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_watch = |target: &Path| target.as_os_str() == "anon_inode:inotify";
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| is_watch(&target))).count()
}

#[tokio::test]
async fn a_console_that_can_not_be_followed_any_longer_says_so() {
    let (daemon, vm) = web().await;
    let mut child = daemon.nexusctl(&["vm", "logs", "web", "--follow", "--tail", "1"]).spawn().unwrap();
    daemon.shell(&vm, "echo here >/proc/$PPID/fd/1").await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap().as_deref() != Some("here") {}
    let _daemon = daemon.replace().await;
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    assert_eq!(output.status.code(), Some(1));
    // It may ask the one that is about to die, or nobody, as the next one may not be there yet.
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(["any longer", "not running", "went away"].iter().any(|words| said.contains(words)), "{said}");
}

#[tokio::test]
async fn a_console_is_followed_until_ctrl_c() {
    let (daemon, vm) = web().await;
    let watches = file_watches(daemon.pid());
    // What the agent itself writes is what a guest's kernel writes elsewhere.
    let say = async |line: &str| daemon.shell(&vm, &format!("echo {line} >/proc/$PPID/fd/1")).await;
    for line in ["one", "two"] {
        assert_eq!(say(line).await, (0, String::new()));
    }
    let mut child = daemon.nexusctl(&["vm", "logs", "web", "--follow", "--tail", "1"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
    assert_eq!(next().await.as_deref(), Some("two"));
    for line in ["three", "four"] {
        say(line).await;
        assert_eq!(next().await.as_deref(), Some(line));
    }
    assert_eq!(file_watches(daemon.pid()), watches + 1);

    interrupt(&child, Signal::SIGINT);
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("nexusctl ends").unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(130), String::new()));
    // The daemon hears of it a moment later.
    let forgotten = async {
        while file_watches(daemon.pid()) > watches {
            daemon.manager().await.state().await.unwrap();
        }
    };
    timeout(PATIENCE, forgotten).await.expect("the daemon does not follow for nobody");
}

#[tokio::test]
async fn run_is_a_vm_for_one_command() {
    let daemon = with_image().await;
    let words = ["run", "base", "--vmm", "process", "-e", "A=b", "--", "sh", "-c", "echo $A; exit 5"];
    let said = ctl(&daemon, &words).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(5), "b\n", ""), "{said:?}");
    nothing_left(&daemon).await;
    let said = ctl(&daemon, &["run", "base", "--vmm", "process", "--", "no-such-program"]).await;
    assert_eq!(said.code, Some(127), "{said:?}");
    nothing_left(&daemon).await;
    let said = ctl(&daemon, &["run", "nothing", "--vmm", "process", "--", "true"]).await;
    assert_eq!(said.code, Some(125), "{said:?}");
    has(&said.err, &["There is no image `nothing`"]);
    nothing_left(&daemon).await;
}

#[tokio::test]
async fn run_leaves_nothing_however_it_ends() {
    let daemon = with_image().await;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let words = ["run", "base", "--vmm", "process", "--", "sh", "-c", "echo ready; exec sleep 1000"];
        let mut child = daemon.nexusctl(&words).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("output in time").unwrap();
        assert_eq!(line.as_deref(), Some("ready"));
        interrupt(&child, signal);
        let status = timeout(PATIENCE, child.wait()).await.expect("nexusctl ends").unwrap();
        match signal {
            Signal::SIGKILL => assert_eq!(status.signal(), Some(9)),
            other => assert_eq!(status.code(), Some(128 + other as i32)),
        }
        nothing_left(&daemon).await;
    }
}

#[tokio::test]
async fn without_the_daemon_it_says_how_to_start_it() {
    let bus = Arc::new(TestBus::start());
    let mut daemon = TestDaemon::start_in(Arc::new(Home::new()), bus.clone()).await;
    assert!(daemon.end(Signal::SIGTERM).await.success());
    let _systemd = zbus::connection::Builder::address(bus.address().as_str())
        .name("org.freedesktop.systemd1")
        .build()
        .await
        .unwrap();
    let said = ctl(&daemon, &["vm", "list"]).await;
    let expected = "Error: cannot reach Nexus on the session bus\n  \
                      The daemon is not running.\n  \
                      Start it: systemctl --user start nexus.service\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(1), "", expected));
}

#[tokio::test]
async fn a_real_vm_runs_a_command() {
    let Some(parts) = GuestParts::find() else { return };
    let home = Home::new();
    let mut yaml = "vmm:\n  allow-process: true\npaths:\n  allow:\n".to_owned();
    writeln!(yaml, "    - {}", GuestParts::folder().canonicalize().unwrap().display()).unwrap();
    home.configure(&yaml);
    let daemon = TestDaemon::start_in(Arc::new(home), Arc::new(TestBus::start())).await;
    let (kernel, initrd) = (parts.kernel.to_str().unwrap(), parts.initrd.to_str().unwrap());
    has(&ok(&daemon, &["kernel", "import", kernel, "--initrd", initrd]).await, &["Kernel kernel-", "initrd-"]);
    has(&ok(&daemon, &["kernel", "list"]).await, &["kernel", "initrd", "yes"]);
    let names = ok(&daemon, &["kernel", "list", "-q"]).await;
    // Once more is no more.
    ok(&daemon, &["kernel", "import", kernel, "--initrd", initrd]).await;
    assert_eq!(ok(&daemon, &["kernel", "list", "-q"]).await, names);
    let name = names.lines().find(|name| name.starts_with("kernel-")).unwrap();
    has(&ok(&daemon, &["kernel", "inspect", name]).await, &[name, "sha256:", "Default:", "yes"]);
    has(&ok(&daemon, &["kernel", "verify", name]).await, &["is as it was imported"]);
    has(&ok(&daemon, &["kernel", "default", name]).await, &["is taken where none"]);
    ok(&daemon, &["image", "import", parts.rootfs.to_str().unwrap(), "guest"]).await;
    let said = ctl(&daemon, &["run", "guest", "--vmm", "qemu", "--", "uname", "-a"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("Linux vm-"), "{said:?}");
    nothing_left(&daemon).await;
    // No kernel boots in so short a time.
    let said = ctl(&daemon, &["run", "guest", "--vmm", "qemu", "--timeout", "10ms", "--", "true"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(125), ""), "{said:?}");
    has(&said.err, &["has not answered within 10 ms", "The command did not run.", "The VM is removed."]);
    nothing_left(&daemon).await;
    has(&ok(&daemon, &["kernel", "delete", name, "--yes"]).await, &["is deleted"]);
    assert!(!ok(&daemon, &["kernel", "list", "-q"]).await.contains(name));
}

#[tokio::test]
async fn an_uncompressed_kernel_is_imported_and_boots() {
    let Some(parts) = GuestParts::find() else { return };
    let home = Home::new();
    let mut yaml = "paths:\n  allow:\n".to_owned();
    writeln!(yaml, "    - {}", GuestParts::folder().canonicalize().unwrap().display()).unwrap();
    home.configure(&yaml);
    let daemon = TestDaemon::start_in(Arc::new(home), Arc::new(TestBus::start())).await;
    let vmlinux = daemon.home.user().join("vmlinux");
    let unpacked = daemon.home.user().join("unpacked");
    let bzimage = import_kernel(&parts.kernel, &unpacked, &Progress::default()).unwrap();
    fs::copy(bzimage.elf_path.expect("Debian's kernel can be unpacked"), &vmlinux).unwrap();

    let (path, initrd) = (vmlinux.to_str().unwrap(), parts.initrd.to_str().unwrap());
    let words = ["kernel", "import", path, "--initrd", initrd, "--version", "elf"];
    has(&ok(&daemon, &words).await, &["Kernel kernel-elf is there, and initrd-elf goes with it."]);
    let kernels = json(&daemon, &["kernel", "list"]).await;
    let kernel = kernels.as_array().unwrap().iter().find(|asset| asset["kind"] == "kernel").unwrap();
    assert_eq!((&kernel["name"], &kernel["version"]), (&"kernel-elf".into(), &"elf".into()));
    assert_eq!(kernel["architecture"], "x86_64");
    let content = fs::read(&vmlinux).unwrap();
    assert_eq!(kernel["size_bytes"], content.len());
    let digest: String = Sha256::digest(&content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(kernel["digest"], digest);
    assert!(content == fs::read(kernel["path"].as_str().unwrap()).unwrap(), "it was changed on the way");

    ok(&daemon, &["image", "import", parts.rootfs.to_str().unwrap(), "guest"]).await;
    let said = ctl(&daemon, &["run", "guest", "--vmm", "qemu", "--", "uname", "-s"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "Linux\n"), "{said:?}");
    nothing_left(&daemon).await;
}
