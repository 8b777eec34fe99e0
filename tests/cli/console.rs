//! A console that is followed.

use std::{fs, path::Path};

use nexus_tests::PATIENCE;
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::said::{ctl, has, interrupt, ok, web};

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
async fn what_the_run_before_has_written_is_kept() {
    let (daemon, vm) = web().await;
    let previous = ctl(&daemon, &["vm", "logs", "web", "--previous"]).await;
    assert_eq!((previous.code, previous.out.as_str()), (Some(0), ""), "{previous:?}");
    daemon.shell(&vm, "echo last words >/proc/$PPID/fd/1").await;
    ok(&daemon, &["vm", "restart", "web"]).await;
    assert!(!ctl(&daemon, &["vm", "logs", "web"]).await.out.contains("last words"));
    has(&ok(&daemon, &["vm", "logs", "web", "--previous"]).await, &["last words"]);
    assert_eq!(ctl(&daemon, &["vm", "logs", "web", "--previous", "--follow"]).await.code, Some(2));
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
