//! Verbs of nexusctl that go on: through a restart of the daemon, and not after their reader has gone.

use std::collections::BTreeSet;

use nexus_tests::{PATIENCE, TestDaemon};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
    time::timeout,
};

/// nexusctl with pipes for its output.
struct Piped {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Piped {
    fn run(daemon: &TestDaemon, arguments: &[&str]) -> Self {
        let mut child = daemon.nexusctl(arguments).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.out.next_line()).await.expect("output in time").unwrap().expect("it goes on")
    }

    async fn said(&mut self) -> String {
        timeout(PATIENCE, self.err.next_line()).await.expect("a word in time").unwrap().expect("it goes on")
    }

    async fn code(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("nexusctl ends").unwrap().code()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()), signal).unwrap();
    }
}

/// As `| head -1` does: nothing happens afterwards that would be written, and be told of that way.
#[tokio::test]
async fn what_follows_ends_with_its_reader() {
    let daemon = TestDaemon::start().await;
    let web = daemon.run("web", []).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    daemon.shell(&web, "echo here >/proc/$PPID/fd/1").await;
    for arguments in [
        &["tree", "--watch"][..],
        &["tree", "--watch", "-o", "json"],
        &["events", "-f", "-n", "1"],
        &["audit", "-f", "-o", "json", "-n", "1"],
        &["vm", "logs", "web", "--follow"],
    ] {
        let mut piped = Piped::run(&daemon, arguments);
        piped.line().await;
        let Piped { mut child, out, mut err } = piped;
        drop(out);
        let status = timeout(PATIENCE, child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{arguments:?} goes on for nobody")).unwrap();
        let said = timeout(PATIENCE, err.next_line()).await.unwrap().unwrap();
        assert_eq!((status.code(), said), (Some(141), None), "{arguments:?}");
    }
}

/// The numbers of rows, each of which is told once.
#[derive(Default)]
struct Numbers(BTreeSet<u64>);

impl Numbers {
    /// Reads rows until one is as wanted.
    async fn until(&mut self, piped: &mut Piped, wanted: impl Fn(&Value) -> bool) {
        loop {
            let row: Value = serde_json::from_str(&piped.line().await).unwrap();
            assert!(self.0.insert(row["seq"].as_u64().unwrap()), "told twice: {row}");
            if wanted(&row) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn lists_go_on_with_the_next_daemon() {
    for verb in ["events", "audit"] {
        let daemon = TestDaemon::start().await;
        daemon.create("before", []).await;
        let mut piped = Piped::run(&daemon, &[verb, "-f", "-o", "json"]);
        let mut told = Numbers::default();
        told.until(&mut piped, |row| row["subject"] == "vm/before").await;
        let daemon = daemon.replace().await;
        assert!(piped.said().await.starts_with("The daemon went away"), "{verb}");
        daemon.create("after", []).await;
        told.until(&mut piped, |row| row["subject"] == "vm/after").await;
        // Once more, with more to be told again.
        let daemon = daemon.replace().await;
        daemon.create("last", []).await;
        told.until(&mut piped, |row| row["subject"] == "vm/last").await;
        let list: Vec<u64> = (*told.0.first().unwrap()..=*told.0.last().unwrap()).collect();
        assert_eq!(told.0.into_iter().collect::<Vec<u64>>(), list, "nothing is left out");
        piped.signal(Signal::SIGINT);
        assert_eq!(piped.code().await, Some(130));
    }
}

/// Regression: it waited without a word, and a Ctrl-C did not say what became of the command.
#[tokio::test]
async fn a_command_whose_daemon_is_away_runs_on_and_that_is_said() {
    let mut daemon = TestDaemon::start().await;
    let web = daemon.run("web", []).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    let mut piped = Piped::run(&daemon, &["exec", "web", "--", "sh", "-c", "echo ready; sleep 1000"]);
    assert_eq!(piped.line().await, "ready");
    daemon.end(Signal::SIGKILL).await;
    let said = piped.said().await;
    assert!(
        said.starts_with("The daemon is away. The command in VM web runs on; waiting to hear how it ends"),
        "{said}"
    );
    piped.signal(Signal::SIGINT);
    let mut rest = String::new();
    while let Some(line) = timeout(PATIENCE, piped.err.next_line()).await.unwrap().unwrap() {
        rest.push_str(&line);
    }
    assert!(rest.contains("was not told of signal 2"), "{rest}");
    assert!(rest.contains("kills it") && rest.contains("nexusctl vm execs web"), "{rest}");
    assert_eq!(piped.code().await, Some(130));
    let daemon = TestDaemon::start_in(daemon.home.clone(), daemon.bus.clone()).await;
    daemon.wait(&web, |vm| vm.guest_ready).await;
    let guest = daemon.guest(&web).await;
    let ended = async { while !guest.list_execs().await.unwrap().is_empty() {} };
    timeout(PATIENCE, ended).await.expect("the guest kills it");
}
