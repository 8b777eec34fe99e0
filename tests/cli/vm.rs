//! The life of a VM and its settings.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::said::{ctl, has, json, nothing_left, ok, web, with_image};

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
