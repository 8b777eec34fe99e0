//! nexusd with a real journal: what somebody with nothing but `journalctl` finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use nexus_actors::catalogue;
use nexus_model::steers_display;
use nexus_store::Store;
use nexus_tests::{Liar, Lie, PATIENCE, not_run, program};
use serde_json::Value;

/// One record of the journal, by its fields.
struct Record(BTreeMap<String, Value>);

impl Record {
    /// A field, empty when it is not there. What has several values in one record is told by none of them.
    fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.as_str().unwrap_or_else(|| panic!("{name} is {value}")))
    }

    fn is(&self, message_id: &str) -> bool {
        self.field("MESSAGE_ID") == message_id
    }
}

/// Everything that nexusd wrote while `part` of `journal.sh` was played.
fn records(folder: &Path, part: &str) -> Vec<Record> {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("journal.sh"))
        .arg(program("nexusd"))
        .arg(folder)
        .arg(part)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| Record(serde_json::from_str(line).unwrap())).collect()
}

/// As many failures as are allowed, just now.
fn fail_often(database: &Path) {
    let mut store = Store::open(database).unwrap();
    let mut vm = store.vms().unwrap().remove(0);
    vm.recent_failures = vec![SystemTime::now().into(); 5];
    store.update_vm(&vm, None).unwrap();
}

#[test]
fn the_journal_has_the_story_of_a_vm() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("it needs root, to have a journal of its own");
    }
    let folder = tempfile::Builder::new().prefix("nxj").tempdir().unwrap();
    // nexusd finds them beside itself.
    let _ = (program("nexus-shim"), program("guest-agent"));
    let life = records(folder.path(), "life");
    fail_often(&folder.path().join("state/nexus/nexus.db"));
    let end = records(folder.path(), "end");

    let transitions = || life.iter().filter(|record| record.is(catalogue::VM_STATE));
    let states: Vec<&str> = transitions().map(|record| record.field("NEXUS_STATE")).collect();
    let twice = ["starting", "running"];
    assert_eq!(states, [&twice[..], &["stopping", "stopped"], &twice, &["crashed"], &twice].concat());
    assert_eq!(transitions().nth(1).unwrap().field("NEXUS_JOB"), "1");
    for (part, id) in [(&life, catalogue::VM_RESTART), (&end, catalogue::VM_GAVE_UP), (&life, catalogue::VM_STATE)] {
        assert!(part.iter().any(|record| record.is(id)), "no record has the id {id}");
    }

    for record in life.iter().chain(&end) {
        let message = record.field("MESSAGE");
        assert_eq!(record.field("SYSLOG_IDENTIFIER"), "nexusd", "{message}");
        if message.contains("VM web") || message.contains("/vm/web") {
            assert_eq!(record.field("NEXUS_VM"), "web", "{message}");
        }
        assert!(
            !record.0.values().any(|value| value.as_str().is_some_and(|text| text.contains("hunter2"))),
            "{message}"
        );
        if record.is(catalogue::CALL) {
            assert!(record.field("NEXUS_CALLER_EXE").ends_with("/busctl"), "{message}");
            assert!(record.field("NEXUS_CALLER_PID").parse::<u32>().unwrap() > 0, "{message}");
            assert!(record.field("NEXUS_TOOK_USEC").parse::<u64>().unwrap() > 0, "{message}");
        } else if !record.field("MESSAGE_ID").is_empty() {
            assert_eq!(record.field("NEXUS_ACTOR"), "root/vms/web/machine", "{message}");
            assert!(record.field("NEXUS_GENERATION").parse::<u64>().unwrap() > 0, "{message}");
        }
        if !record.field("NEXUS_REQUEST").is_empty() {
            assert_eq!(record.field("NEXUS_REQUEST").len(), 16, "{message}");
            assert!(record.field("DBUS_SENDER").starts_with(':'), "{message}");
        }
        if message.starts_with("job ") {
            assert!(!record.field("NEXUS_JOB").is_empty() && !record.field("DBUS_SENDER").is_empty(), "{message}");
        }
    }
    let changed = end.iter().find(|record| record.is(catalogue::VM_CHANGED)).unwrap();
    let fields = ["NEXUS_SETTING", "NEXUS_BEFORE", "NEXUS_AFTER"].map(|name| changed.field(name));
    assert_eq!(fields, ["autostart", "no", "yes"]);
    assert!(!changed.field("NEXUS_REQUEST").is_empty());
    let asked = |words: &str| life.iter().find(|record| record.field("MESSAGE").contains(words)).unwrap();
    assert!(!asked("wants VM web killed").field("NEXUS_REQUEST").is_empty());
    let calls: Vec<String> = life
        .iter()
        .filter(|record| record.is(catalogue::CALL))
        .map(|record| ["NEXUS_SUBJECT", "NEXUS_MEMBER", "NEXUS_RESULT"].map(|name| record.field(name)).join(" "))
        .collect();
    let (manager, web) = ("/org/workfort/Nexus1", "/org/workfort/Nexus1/vm/web");
    assert_eq!(
        calls,
        [
            format!("vm/web {manager} CreateVm ok"),
            format!("vm/web {manager} StartVm ok"),
            format!("vm/web {manager} KillVm ok"),
            format!("vm/nothing {manager} KillVm org.workfort.Nexus1.Error.NotFound"),
            format!("vm/web {web} Start ok"),
            format!("vm/web {web} RestartActor ok"),
        ]
    );
    // Each with its reason, whether a job is the answer or not.
    assert_eq!(asked("vm/web Start for :").field("NEXUS_CALLER_REASON"), "to see it crash");
    assert_eq!(asked("wants VM web started").field("NEXUS_CALLER_REASON"), "");
    let restarted = asked("vm/web RestartActor for :");
    assert_eq!(restarted.field("NEXUS_CALLER_REASON"), "to see it come back");
    assert_eq!(restarted.field("NEXUS_ACTOR"), "root/vms/web/machine");
}

/// Takes the guest's place, once `journal.sh` has said where that is.
async fn lie(folder: &Path, lie: Lie) -> Liar {
    let asked = folder.join("vsock");
    while !asked.exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let liar = Liar::in_place_of(Path::new(fs::read_to_string(asked).unwrap().trim_end()), lie);
    fs::write(folder.join("lies"), "").unwrap();
    liar
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_says_makes_no_record_of_its_own_and_steers_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return not_run("it needs root, to have a journal of its own");
    }
    let folder = tempfile::Builder::new().prefix("nxj").tempdir().unwrap();
    let _ = (program("nexus-shim"), program("guest-agent"));
    let place = folder.path().to_owned();
    let playing = tokio::task::spawn_blocking(move || records(&place, "lies"));
    let _liar = tokio::time::timeout(PATIENCE, lie(folder.path(), Lie::Escapes)).await.unwrap();
    let records = playing.await.unwrap();

    let fields = || records.iter().flat_map(|record| &record.0);
    let (mut quoted, word) = (0, "owned");
    for (name, value) in fields() {
        // What is no text, or steers a terminal, the journal gives as an array of bytes.
        let text = value.as_str().unwrap_or_else(|| panic!("{name} is {value}"));
        assert!(!text.contains(steers_display), "{name} is {text:?}");
        assert!(!name.to_lowercase().contains(word) && !text.starts_with(word), "{name} is {text:?}");
        quoted += usize::from(text.contains(word));
    }
    assert!(quoted > 0, "nothing of what the guest said is in the journal");
}
