//! nexusd with a real journal: what somebody with nothing but `journalctl` finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

use nexus_actors::catalogue;
use nexus_tests::program;
use serde_json::Value;

#[test]
fn the_journal_has_the_story_of_a_vm() {
    if !nix::unistd::geteuid().is_root() {
        assert!(!nexus_tests::everything_is_required(), "this test needs root, to have a journal of its own");
        println!("not run: it needs root, to have a journal of its own");
        return;
    }
    let folder = tempfile::Builder::new().prefix("nxj").tempdir().unwrap();
    // nexusd finds them beside itself.
    let _ = (program("nexus-shim"), program("guest-agent"));
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("journal.sh"))
        .arg(program("nexusd"))
        .arg(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let records: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let transitions: Vec<&Value> =
        records.iter().filter(|record| record["MESSAGE_ID"] == catalogue::VM_STATE).collect();
    let states: Vec<&str> = transitions.iter().map(|record| record["NEXUS_STATE"].as_str().unwrap()).collect();
    assert_eq!(states, ["starting", "running", "stopping", "stopped"], "{told}");
    for record in &transitions {
        assert_eq!(record["NEXUS_ACTOR"], "root/vms/web/machine");
        assert_eq!(record["NEXUS_GENERATION"], "1");
        assert_eq!(record["SYSLOG_IDENTIFIER"], "nexusd");
    }
    assert_eq!(transitions[1]["NEXUS_JOB"], "1");
    let asked =
        records.iter().find(|record| record["MESSAGE"].as_str().unwrap().contains("wants VM web killed")).unwrap();
    assert!(asked["DBUS_SENDER"].as_str().unwrap().starts_with(':'));
    assert_eq!(asked["NEXUS_REQUEST"].as_str().unwrap().len(), 16);
    for record in &records {
        assert_eq!(record["NEXUS_VM"], "web");
    }
}
