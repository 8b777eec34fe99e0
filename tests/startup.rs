//! Why nexusd does not come up: it says so in a sentence, ends with a failure, and leaves everything as it was.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{fs, path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use nexus_dbus::SERVICE;
use nexus_tests::{Ended, Home, TestBus, TestDaemon};
use nix::sys::signal::Signal;
use tokio::process::Command;
use zbus::{MatchRule, MessageStream, fdo::MonitoringProxy};

fn says(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    for word in words {
        assert!(ended.log.contains(word), "`{word}` is not in: {}", ended.log);
    }
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
}

/// Everything below a home but its log.
fn files(home: &Home) -> Vec<PathBuf> {
    fn list(folder: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                list(entry.path(), found);
            }
            found.push(entry.path());
        }
    }
    let mut found = Vec::new();
    list(home.path().to_owned(), &mut found);
    found.retain(|path| !path.ends_with("nexusd.log"));
    found.sort();
    found
}

fn on(home: &Home, bus: &TestBus) -> Command {
    TestDaemon::command(home, &bus.address())
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_its_place_and_nothing_is_made() {
    let bus = TestBus::start();
    for (yaml, words) in [
        ("vmm:\n  alow-process: true\n", &["alow-process", "line 2"][..]),
        ("colour: blue\n", &["colour"]),
        ("vm:\n  heartbeat-sec: soon\n", &["heartbeat-sec", "soon"]),
        ("vm:\n  heartbeat-sec: 0\n", &["vm.heartbeat-sec must be at least 1"]),
        ("storage:\n  backend: zfs\n", &["zfs", "copy"]),
        ("paths:\n  allow: [images]\n", &["`images` must be an absolute path"]),
        ("vm: [\n", &["nexus.yaml is wrong"]),
    ] {
        let home = Home::new();
        home.configure(yaml);
        let before = files(&home);
        let ended = TestDaemon::refused(on(&home, &bus)).await;
        says(&ended, words);
        says(&ended, &[home.configuration().to_str().unwrap()]);
        assert_eq!(files(&home), before, "{yaml}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_named_must_be_there() {
    let (home, bus) = (Home::new(), TestBus::start());
    let before = files(&home);
    let mut command = on(&home, &bus);
    command.args(["--config", "/nonexistent/nexus.yaml"]);
    let ended = TestDaemon::refused(command).await;
    says(&ended, &["cannot read the configuration /nonexistent/nexus.yaml", "No such file"]);
    assert_eq!(files(&home), before);
}

#[tokio::test]
async fn the_configuration_is_checked_without_starting_anything() {
    let (home, bus) = (Home::new(), TestBus::start());
    let before = files(&home);
    let mut command = on(&home, &bus);
    command.arg("--check-config");
    assert!(TestDaemon::refused(command).await.status.success());
    assert_eq!(files(&home), before);
    assert!(!bus.has_nexus().await);
}

#[tokio::test]
async fn a_wrong_log_level_is_told() {
    let (home, bus) = (Home::new(), TestBus::start());
    let mut command = on(&home, &bus);
    command.args(["--log", "nexus=loud"]);
    says(&TestDaemon::refused(command).await, &["`nexus=loud` is no log level", "use error, warn, info"]);
}

#[tokio::test]
async fn one_daemon_a_bus() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let home = Home::new();
    let before = files(&home);
    let ended = TestDaemon::refused(on(&home, &daemon.bus)).await;
    says(&ended, &["another nexusd is on this bus already"]);
    assert_eq!(files(&home), before);
    assert_eq!(daemon.shell(&vm, "echo undisturbed").await, (0, "undisturbed\n".to_owned()));
}

#[tokio::test]
async fn a_daemon_that_the_bus_still_thinks_is_there_is_no_obstacle() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    // The name without anybody behind it, as of a nexusd that has just been killed.
    let last = bus.connect().await;
    last.request_name(SERVICE).await.unwrap();
    let witness = bus.connect().await;
    let mut seen = MessageStream::from(&witness);
    let asks = MatchRule::builder().member("NameHasOwner").build().unwrap();
    MonitoringProxy::new(&witness).await.unwrap().become_monitor(&[asks], 0).await.unwrap();
    let let_go = async {
        // It finds the name taken before the bus notices.
        while seen.next().await.unwrap().unwrap().header().member().is_none_or(|member| member != "NameHasOwner") {}
        last.close().await.unwrap();
    };
    let command = on(&home, &bus);
    let (daemon, ()) = tokio::join!(TestDaemon::start_with(home, bus, command), let_go);
    assert!(daemon.bus.has_nexus().await);
}

#[tokio::test]
async fn one_daemon_a_state_folder() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let before = daemon.read(&vm).await;
    let other = TestBus::start();
    let ended = TestDaemon::refused(on(&daemon.home, &other)).await;
    says(&ended, &[daemon.home.path().join("state/nexus").to_str().unwrap(), "another nexusd"]);
    assert!(!other.has_nexus().await);
    let after = daemon.read(&vm).await;
    assert_eq!((after.leader, after.state_changed_at), (before.leader, before.state_changed_at));
    assert_eq!(daemon.shell(&vm, "echo undisturbed").await, (0, "undisturbed\n".to_owned()));
}

#[tokio::test]
async fn a_database_that_is_not_its_own_is_left_as_it_is() {
    let bus = Arc::new(TestBus::start());
    let home = Arc::new(Home::new());
    let mut daemon = TestDaemon::start_in(home.clone(), bus.clone()).await;
    daemon.create("web", []).await;
    assert!(daemon.end(Signal::SIGTERM).await.success());
    let good = fs::read(home.database()).unwrap();
    // The fields of SQLite's header: https://www.sqlite.org/fileformat2.html#the_database_header
    let with = |offset: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    let torn = {
        let mut bytes = good.clone();
        bytes[4096..].fill(0x5a);
        bytes
    };
    for (bytes, words) in [
        (with(60, 4711), &["newer"][..]),
        (with(68, 0x1234_5678), &["another program"]),
        (torn, &["damaged"]),
        (b"a diary, and no database".to_vec(), &["no SQLite database"]),
        (Vec::new(), &["no SQLite database"]),
    ] {
        fs::write(home.database(), &bytes).unwrap();
        let before = files(&home);
        let ended = TestDaemon::refused(on(&home, &bus)).await;
        says(&ended, words);
        says(&ended, &[home.database().to_str().unwrap()]);
        assert!(fs::read(home.database()).unwrap() == bytes, "{words:?}: the file was changed");
        assert_eq!(files(&home), before, "{words:?}");
    }
    fs::write(home.database(), &good).unwrap();
    let daemon = TestDaemon::start_in(home, bus).await;
    assert_eq!(daemon.manager().await.vm_count().await.unwrap(), 1);
}

#[tokio::test]
async fn without_a_session_bus_it_says_so_and_nothing_is_made() {
    let (home, bus) = (Home::new(), TestBus::start());
    let before = files(&home);
    let mut command = on(&home, &bus);
    command.env_remove("DBUS_SESSION_BUS_ADDRESS");
    let ended = TestDaemon::refused(command).await;
    says(&ended, &["cannot reach the session bus", "systemctl --user start nexus.service", "dbus-run-session"]);
    for (address, word) in [("unix:path=/nonexistent/bus", "No such file"), ("nonsense", "address")] {
        let mut command = on(&home, &bus);
        command.env("DBUS_SESSION_BUS_ADDRESS", address);
        says(&TestDaemon::refused(command).await, &["cannot reach the session bus", word]);
    }
    assert_eq!(files(&home), before);
}

#[tokio::test]
async fn a_runtime_folder_that_is_too_deep_for_sockets_is_told() {
    let (home, bus) = (Home::new(), TestBus::start());
    let deep = home.path().join("d".repeat(100));
    fs::create_dir(&deep).unwrap();
    let before = files(&home);
    let mut command = on(&home, &bus);
    command.env("XDG_RUNTIME_DIR", &deep);
    says(&TestDaemon::refused(command).await, &["too long for sockets", "XDG_RUNTIME_DIR"]);
    assert_eq!(files(&home), before);
}

#[tokio::test]
async fn a_home_that_is_missing_is_told() {
    let (home, bus) = (Home::new(), TestBus::start());
    let mut command = on(&home, &bus);
    command.env_remove("HOME").env_remove("XDG_STATE_HOME");
    says(&TestDaemon::refused(command).await, &["HOME is not set"]);
}
