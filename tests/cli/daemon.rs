//! What is said of the daemon itself and of its jobs.

use std::{fs, sync::Arc};

use nexus_tests::{Home, TestBus, TestDaemon};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::said::{ctl, has, json, ok, run, web, with_image};

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
        (&"one-for-one".into(), (1..=5).map(|number| format!("connection {number}")).collect())
    );
    assert_eq!(vms["children"][0]["children"][0]["path"], "/org/workfort/Nexus1/vm/web");
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
