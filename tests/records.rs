//! What a real nexusd remembers of its callers and of what happened, also of what it was killed in the middle of.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
};

use nexus_dbus::client::Options;
use nexus_tests::{BreakableDaemon, PATIENCE, TestDaemon, process};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;
use zbus::Variant;

async fn read(list: zbus::OwnedFd) -> Vec<Value> {
    let mut file = File::from(OwnedFd::from(list));
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    });
    text.await.unwrap().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn audit(daemon: &TestDaemon) -> Vec<Value> {
    read(daemon.manager().await.open_audit(Options::new()).await.unwrap()).await
}

async fn events(daemon: &TestDaemon) -> Vec<Value> {
    read(daemon.manager().await.open_events(Options::new()).await.unwrap()).await
}

/// A list that is followed.
fn followed(list: zbus::OwnedFd) -> BufReader<UnixStream> {
    let stream = UnixStream::from(OwnedFd::from(list));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

#[tokio::test]
async fn a_caller_is_known_by_its_process_and_program() {
    let daemon = TestDaemon::start().await;
    let path = daemon.manager().await.create_vm("web", process([])).await.unwrap();
    // zbus holds its tree of objects while a setter runs, which asks the bus meanwhile who its caller is.
    let other = daemon.bus.connect().await;
    let vm = nexus_dbus::client::VmProxy::builder(&other).path(path).build().await.unwrap();
    vm.set_label("A label").await.unwrap();
    let output = daemon.nexusctl(&["vm", "delete", "--yes", "web"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");

    let rows = audit(&daemon).await;
    let own = std::env::current_exe().unwrap();
    for (row, client) in [(&rows[0], &daemon.client), (&rows[1], &other)] {
        assert_eq!(row["sender"], client.unique_name().unwrap().as_str());
        assert_eq!(row["pid"].as_u64(), Some(u64::from(std::process::id())));
        assert_eq!(row["executable"], own.to_str().unwrap());
    }
    assert_eq!(rows[1]["member"], "Label");
    assert_eq!((rows[2]["member"].as_str(), rows[2]["result"].as_str()), (Some("Remove"), Some("ok")));
    // It has ended since.
    assert!(rows[2]["executable"].as_str().unwrap().ends_with("/nexusctl"), "{}", rows[2]);
    assert_ne!(rows[2]["pid"], rows[0]["pid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_daemon_is_killed_in_was_cut_off() {
    let daemon = TestDaemon::start().await;
    let web = daemon.run("web", [("restart-policy", "no".into())]).await;
    let leader = daemon.wait(&web, |vm| vm.guest_ready).await.leader;
    let guest = daemon.guest(&web).await;
    let hanging = tokio::spawn(async move {
        let timeout = Options::from([("timeout-usec", 3_600_000_000_u64.into())]);
        guest.run(&["sleep", "3600"], timeout).await
    });
    // It is written down before it is done.
    let is_there = async {
        loop {
            if let Some(row) = audit(&daemon).await.into_iter().find(|row| row["member"] == "Run") {
                return row;
            }
            tokio::task::yield_now().await;
        }
    };
    let row = tokio::time::timeout(PATIENCE, is_there).await.unwrap();
    assert_eq!((row["result"].as_str(), row["took_usec"].as_u64()), (Some(""), Some(0)));

    let mut daemon = daemon.replace().await;
    assert!(hanging.await.unwrap().is_err());
    let after = audit(&daemon).await.into_iter().find(|row| row["member"] == "Run").unwrap();
    assert_eq!((after["request"].as_str(), after["result"].as_str()), (row["request"].as_str(), Some("cut-off")));
    assert!(after["message"].as_str().unwrap().contains("nexusd ended"), "{after}");
    let kinds = |events: &[Value]| -> Vec<String> {
        events
            .iter()
            .filter(|row| row["subject"] == "daemon")
            .map(|row| row["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    // By now the second one was told to be ready.
    let told = events(&daemon).await;
    assert_eq!(kinds(&told), ["daemon-started", "daemon-ready", "daemon-started", "daemon-ready"]);
    let details: Vec<&str> =
        told.iter().filter(|row| row["subject"] == "daemon").map(|row| row["detail"].as_str().unwrap()).collect();
    assert!(!details[0].contains("in order") && details[1] == "no VM adopted", "{details:?}");
    assert!(details[2].ends_with("; the one before it did not end in order"), "{details:?}");
    assert_eq!(details[3], "1 VM adopted");

    // Followed to the daemon's end.
    let last = Options::from([("follow", true.into()), ("limit", 0_u32.into())]);
    let list = followed(daemon.manager().await.open_events(last).await.unwrap());
    assert!(daemon.end(Signal::SIGTERM).await.success());
    let told: Vec<Value> = list.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(kinds(&told), ["daemon-stopping"]);

    // What ends while nobody looks after it is found ended; and this daemon was told to end.
    let leader = nix::unistd::Pid::from_raw(leader.try_into().unwrap());
    nix::sys::signal::kill(leader, Signal::SIGKILL).unwrap();
    let daemon = TestDaemon::start_in(daemon.home.clone(), daemon.bus.clone()).await;
    let told = events(&daemon).await;
    let [.., started, ready] = &told.iter().filter(|row| row["subject"] == "daemon").collect::<Vec<_>>()[..] else {
        panic!("{told:?}")
    };
    assert!(!started["detail"].as_str().unwrap().contains("in order"), "{started}");
    assert_eq!((&ready["kind"], &ready["detail"]), (&"daemon-ready".into(), &"no VM adopted, 1 VM found ended".into()));
}

#[tokio::test]
async fn a_restart_of_an_actor_is_told() {
    let daemon = TestDaemon::start().await;
    let web = daemon.create("web", []).await;
    daemon.supervised(&web).await.restart_actor(Options::new()).await.unwrap();
    // What depends on it is started again as well, a moment later.
    for subject in ["vm/web", "vm/web/connection/1"] {
        let told = async {
            loop {
                let mut told = events(&daemon).await.into_iter();
                if let Some(row) = told.find(|row| row["kind"] == "actor-restarted" && row["subject"] == subject) {
                    return row;
                }
            }
        };
        let restarted = tokio::time::timeout(PATIENCE, told).await.expect("it is told");
        assert_eq!((restarted["to"].as_str(), restarted["vm"].as_str()), (Some("ok"), Some("web")), "{restarted}");
    }
    let call = audit(&daemon).await.pop().unwrap();
    assert_eq!((call["subject"].as_str(), call["before"].as_str()), (Some("vm/web"), Some("ok")), "{call}");
}

#[tokio::test]
async fn as_many_are_kept_as_is_configured() {
    let daemon = TestDaemon::configured("vmm:\n  allow-process: true\nhistory:\n  events: 3\n  audit: 2\n").await;
    for name in ["a", "b", "c", "d"] {
        daemon.create(name, []).await;
    }
    let subjects = |rows: Vec<Value>| -> Vec<String> {
        rows.iter().map(|row| row["subject"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(subjects(audit(&daemon).await), ["vm/c", "vm/d"]);
    assert_eq!(subjects(events(&daemon).await), ["vm/b", "vm/c", "vm/d"]);
}

#[tokio::test]
async fn secrets_are_in_no_row_and_no_record() {
    const SECRET: &str = "hunter2-hunter2";
    let daemon = TestDaemon::start().await;
    let env = || Variant::from(HashMap::from([("TOKEN", SECRET)]));
    let web = daemon.run("web", [("env", env())]).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    let guest = daemon.guest(&web).await;
    let test = ["sh", "-c", "test ${#TOKEN} = 15"];
    assert_eq!(guest.run(&test, Options::from([("env", env())])).await.unwrap().0, 0);
    // A whole assignment in place of a name, which is refused.
    let assignment = || Variant::from(HashMap::from([(format!("TOKEN={SECRET}"), "")]));
    let refused = daemon.manager().await.create_vm("db", process([("env", assignment())])).await.unwrap_err();
    assert!(format!("{refused:?}").contains("TOKEN") && !format!("{refused:?}").contains(SECRET), "{refused:?}");
    let refused = guest.run(&test, Options::from([("env", assignment())])).await.unwrap_err();
    assert!(format!("{refused:?}").contains("TOKEN") && !format!("{refused:?}").contains(SECRET), "{refused:?}");
    let text = format!("{:?}{:?}{}", audit(&daemon).await, events(&daemon).await, daemon.log());
    assert!(text.contains("TOKEN"), "its name is known");
    assert!(!text.contains(SECRET), "{text}");
}

/// nexusctl's exit code, standard output and standard error.
async fn said(daemon: &TestDaemon, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = daemon.nexusctl(arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn nexusctl_tells_people_and_programs() {
    let daemon = TestDaemon::start().await;
    let (status, text, _) = said(&daemon, &["audit"]).await;
    assert_eq!((status, text.as_str()), (Some(0), "No call that changed something is kept.\n"));
    let (_, text, _) = said(&daemon, &["events", "--vm", "web", "--until", "1h"]).await;
    assert_eq!(text, "No event of VM web at that time is kept.\n");
    let web = daemon.run("web", []).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    assert_eq!(said(&daemon, &["vm", "delete", "--yes", "--force", "web"]).await.0, Some(0));

    let (status, text, _) = said(&daemon, &["events", "--vm", "web", "--since", "1h"]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(status, Some(0));
    assert!(lines[0].starts_with("AT ") && lines[0].ends_with("WHY"), "{text}");
    for (line, words) in [
        (lines[1], ["vm/web", "vm-created", ""]),
        (lines[3], ["vm/web", "starting → running", "vmm started"]),
        (lines[lines.len() - 1], ["job/2", "job-ended", "remove vm"]),
    ] {
        assert!(words.iter().all(|word| line.contains(word)), "{text}");
    }
    let (_, text, _) = said(&daemon, &["audit", "--vm", "web"]).await;
    assert!(text.contains("Remove") && text.contains("nexusctl (") && text.contains("ok, job 2"), "{text}");

    let (_, text, _) = said(&daemon, &["audit", "-o", "json", "-n", "1"]).await;
    let row: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((row["member"].as_str(), &row["arguments"]["options"]["force"]), (Some("Remove"), &Value::Bool(true)));
    let (_, text, _) = said(&daemon, &["events", "-o", "json"]).await;
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["kind"], "daemon-started");
}

#[tokio::test]
async fn nexusctl_follows_until_it_is_interrupted() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let daemon = TestDaemon::start().await;
    for arguments in [&["events", "-f", "-n", "1"][..], &["events", "-f", "-n", "1", "-o", "json"], &["events", "-f"]] {
        let mut child = daemon.nexusctl(arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // What was there before, then what comes.
        let next = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert!(!next.is_empty());
        let name = format!("vm-{}", child.id().unwrap());
        daemon.create(&name, []).await;
        loop {
            let next = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
            if next.contains(&format!("vm/{name}")) {
                assert!(next.contains("vm-created"), "{next}");
                break;
            }
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(130));
    }
}

#[tokio::test]
async fn a_store_that_hangs_fails_no_call_that_does_not_need_it() {
    let daemon = BreakableDaemon::start().await;
    let web = daemon.run("web", []).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    daemon.set("actor.store=pause\n").await;
    let guest = daemon.guest(&web).await;
    // Until the failpoint holds.
    while !daemon.log().contains("the store is slow") {
        assert_eq!(guest.run(&["true"], Options::new()).await.unwrap().0, 0);
    }
    daemon.set("").await;
    // What was to be written is, as soon as it can be.
    let rows = audit(&daemon).await;
    let runs: Vec<&Value> = rows.iter().filter(|row| row["member"] == "Run").collect();
    assert!(!runs.is_empty() && runs.iter().all(|row| row["result"] == "ok"), "{rows:?}");
}

/// The row of the one command that was run, as soon as it is like this; also while the bus comes back.
async fn run_that(daemon: &TestDaemon, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = async {
        loop {
            if let Ok(list) = daemon.manager().await.open_audit(Options::new()).await
                && let Some(row) = read(list).await.into_iter().find(|row| row["member"] == "Run" && wanted(row))
            {
                return row;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("no such row\n{}", daemon.log()))
}

/// Runs a command that goes on until the file is there, and returns once it is written down that it was asked for.
async fn begin_run(daemon: &TestDaemon) -> (JoinHandle<()>, PathBuf) {
    let web = daemon.run("web", []).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    let guest = daemon.guest(&web).await;
    let go = daemon.home.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    // Whoever asked gets no answer from a bus that is started again.
    let running = tokio::spawn(async move { drop(guest.run(&["sh", "-c", &script], Options::new()).await) });
    run_that(daemon, |row| row["result"] == "").await;
    (running, go)
}

/// The end of a call was dropped when it could not be written at once: the call was under way for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_while_the_database_is_locked_is_completed_afterwards() {
    let daemon = TestDaemon::start().await;
    let (running, go) = begin_run(&daemon).await;
    let locked = rusqlite::Connection::open(daemon.home.database()).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    fs::write(go, "").unwrap();
    running.await.unwrap();
    daemon.logged("what happened is in the journal alone until the store is well again", 1).await;
    locked.execute_batch("COMMIT").unwrap();
    assert_eq!(run_that(&daemon, |row| row["result"] != "").await["result"], "ok");
    let runs = audit(&daemon).await.iter().filter(|row| row["member"] == "Run").count();
    assert_eq!(runs, 1);
}

/// What was on its way to the store when that broke was lost with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_end_breaks_the_store_is_completed_by_the_next_one() {
    let daemon = BreakableDaemon::start().await;
    let (running, go) = begin_run(&daemon).await;
    daemon.set("actor.store=1*panic\n").await;
    fs::write(go, "").unwrap();
    running.await.unwrap();
    assert_eq!(run_that(&daemon, |row| row["result"] != "").await["result"], "ok");
}

/// A list that was followed ended with the first error of the store, just when there was something to tell.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_list_is_told_of_the_fault_of_the_store() {
    let daemon = BreakableDaemon::start().await;
    let last = Options::from([("follow", true.into()), ("limit", 0_u32.into())]);
    let list = followed(daemon.manager().await.open_events(last).await.unwrap());
    // A call is written down, and that there may be more to tell is what the follower asks with.
    daemon.set("actor.store=1*off->1*panic\n").await;
    let _ = daemon.manager().await.create_vm("web", process([])).await;
    let told = tokio::task::spawn_blocking(move || {
        let rows = list.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let restarted = |row: &Value| row["kind"] == "actor-restarted" && row["subject"] == "supervisor/store";
        let mut kinds = Vec::new();
        for row in rows {
            kinds.push(row["kind"].as_str().unwrap().to_owned());
            if restarted(&row) {
                return kinds;
            }
        }
        panic!("the list ended after {kinds:?}");
    });
    let told = told.await.unwrap();
    assert!(told.iter().any(|kind| kind == "actor-fault"), "{told:?}");
}

#[tokio::test]
async fn a_fault_of_the_store_itself_is_told_once_there_is_one_again() {
    let daemon = BreakableDaemon::start().await;
    daemon.set("actor.store=1*panic\n").await;
    // The first one breaks the store. The second one is not to keep anybody from being restarted with it.
    let manager = daemon.manager().await;
    let _ = tokio::join!(manager.list_orphans(), manager.list_orphans());
    let fault = async {
        loop {
            // The one that is cut off is an error of its caller's, and nobody else's.
            if let Ok(list) = daemon.manager().await.open_events(Options::new()).await
                && let Some(fault) = read(list).await.into_iter().find(|row| row["kind"] == "actor-fault")
            {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(PATIENCE, fault).await.unwrap();
    assert_eq!((fault["subject"].as_str(), fault["to"].as_str()), (Some("supervisor/store"), Some("restarting")));
    assert!(fault["detail"].as_str().unwrap().contains("actor.store"), "{fault}");
    // With it, what depends on it; the bus is the last of them, and the list was read on a descriptor of its own.
    let back = async { while daemon.manager().await.list_jobs().await.is_err() {} };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    daemon.create("web", []).await;
    let told = events(&daemon).await;
    let restarted: Vec<&str> = told
        .iter()
        .filter(|row| row["kind"] == "actor-restarted")
        .map(|row| row["subject"].as_str().unwrap())
        .collect();
    for subject in ["supervisor/store", "supervisor/vms", "supervisor/jobs", "supervisor/bus"] {
        assert!(restarted.contains(&subject), "{restarted:?}");
    }
    assert!(!daemon.log().contains("did not stop within"));
}
