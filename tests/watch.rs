//! `nexusctl tree --watch`: what it shows is what is there, and the daemon is not asked for it unless something happens.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod follow;

use nexus_tests::{PATIENCE, Terminal, TestDaemon, VmPath};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout},
    time::timeout,
};

/// Kills a VM's process.
async fn strike(daemon: &TestDaemon, vm: &VmPath) {
    let row = daemon.wait(vm, |vm| vm.guest_ready && vm.state == "running").await;
    kill(Pid::from_raw(i32::try_from(row.leader).unwrap()), Signal::SIGKILL).unwrap();
}

/// What stands behind a name in the tree.
fn line<'a>(picture: &'a str, name: &str) -> &'a str {
    let found = picture.lines().find_map(|line| line.split_once("─ ").filter(|(_, rest)| rest.starts_with(name)));
    found.map(|(_, rest)| rest).unwrap_or_default()
}

#[tokio::test]
async fn on_a_terminal_it_is_drawn_in_place_until_ctrl_c() {
    let daemon = TestDaemon::start().await;
    let mut terminal = Terminal::run(daemon.nexusctl(&["tree", "--watch"]));
    let picture = terminal.until(|_| true).await;
    assert!(picture.starts_with("root ") && !picture.contains("machine"), "{picture}");
    assert!(!terminal.echoes());

    let vm = daemon.create("web", []).await;
    terminal.until(|picture| line(picture, "machine").contains("created")).await;
    daemon.start_vm(&vm).await;
    terminal.until(|picture| line(picture, "machine").contains("guest ready")).await;

    // Why it is unwell, and when it is tried again: the first time after about 1 s, the second after about 2.
    strike(&daemon, &vm).await;
    let wanted = |picture: &str| {
        let line = line(picture, "machine");
        line.contains("restarting") && line.contains("killed by signal 9") && line.contains("tried again in")
    };
    terminal.until(wanted).await;
    strike(&daemon, &vm).await;
    let waits = |picture: &str| {
        let (_, rest) =
            line(picture, "machine").split_once("tried again in ").filter(|(_, rest)| rest.contains("2 failures"))?;
        Some(rest.split(',').next().unwrap_or_default().to_owned())
    };
    // Nothing is heard of it meanwhile, and still it comes nearer.
    let first = terminal.until(|picture| waits(picture).is_some()).await;
    terminal.until(|picture| waits(picture).is_some_and(|time| Some(time) != waits(&first))).await;
    terminal.until(|picture| line(picture, "machine").contains("running")).await;

    // Ctrl-Z gives the terminal to the shell, and `fg` takes it again.
    terminal.signal(Signal::SIGTSTP);
    terminal.stops().await;
    assert!(terminal.echoes());
    daemon.create("other", []).await;
    terminal.signal(Signal::SIGCONT);
    terminal.until(|picture| picture.contains("other")).await;
    assert!(!terminal.echoes());

    let (code, rest, echoes) = terminal.end(Signal::SIGINT).await;
    assert_eq!((code, echoes), (Some(130), true));
    assert!(rest.ends_with("\x1b[?25h\x1b[?1049l"), "{rest:?}");
}

#[tokio::test]
async fn a_daemon_that_goes_is_waited_for_and_not_started() {
    let mut daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let mut terminal = Terminal::run(daemon.nexusctl(&["tree", "--watch"]));
    terminal.until(|picture| line(picture, "machine").contains("guest ready")).await;
    let (home, bus) = (daemon.home.clone(), daemon.bus.clone());
    daemon.end(Signal::SIGKILL).await;
    terminal.until(|picture| picture.starts_with("The daemon is not running. Start it: nexusd\n")).await;
    let daemon = TestDaemon::start_in(home, bus).await;
    terminal.until(|picture| line(picture, "machine").contains("guest ready")).await;
    daemon.vm(&vm).await.kill().await.unwrap();
    terminal.until(|picture| line(picture, "machine").contains("stopped")).await;
    assert_eq!(terminal.end(Signal::SIGTERM).await.0, Some(128 + 15));
}

/// nexusctl with a pipe for its output, which ends with this value.
struct Piped {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Piped {
    fn run(daemon: &TestDaemon, arguments: &[&str]) -> Self {
        let mut child = daemon.nexusctl(arguments).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.expect("output in time").unwrap().unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }
}

/// The machine of the only VM.
fn machine(line: &str) -> Option<Value> {
    let tree: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let vms = tree[0]["children"].as_array()?.iter().find(|child| child["name"] == "vms")?;
    Some(vms["children"][0]["children"][0].clone())
}

#[tokio::test]
async fn programs_get_a_document_a_line_for_each_change() {
    let mut daemon = TestDaemon::start().await;
    let mut piped = Piped::run(&daemon, &["tree", "--watch", "-o", "json"]);
    let first = piped.until(|_| true).await;
    assert_eq!(machine(&first), Some(Value::Null));
    let vm = daemon.run("web", []).await;
    let ready = |line: &str| machine(line).is_some_and(|machine| machine["about"].to_string().contains("guest ready"));
    piped.until(ready).await;
    strike(&daemon, &vm).await;
    let line = piped.until(|line| machine(line).is_some_and(|machine| machine["health"] == "restarting")).await;
    assert!(machine(&line).unwrap()["next_restart_at_usec"].as_u64() > Some(0), "{line}");
    piped.until(ready).await;

    let (home, bus) = (daemon.home.clone(), daemon.bus.clone());
    daemon.end(Signal::SIGKILL).await;
    piped.until(|line| line == "[]").await;
    let _daemon = TestDaemon::start_in(home, bus).await;
    piped.until(ready).await;
    assert_eq!(piped.child.try_wait().unwrap(), None);
}

#[tokio::test]
async fn what_is_written_to_a_pipe_stays_true() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let mut piped = Piped::run(&daemon, &["tree", "--watch"]);
    piped.until(|line| line.contains("guest ready")).await;
    strike(&daemon, &vm).await;
    let line = piped.until(|line| line.contains("restarting")).await;
    assert!(line.contains("tried again at 20") && !line.contains(" ago"), "{line}");
    piped.until(|line| line.contains("guest ready")).await;
}
