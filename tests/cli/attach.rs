//! Terminals of guests on the caller's own.

use std::fs;

use nexus_tests::{Terminal, has_died, pid_in};
use nix::sys::{signal::Signal, termios::LocalFlags};

use crate::said::{ctl, has, json, ok, web};

/// A shell whose prompt and answers can't be taken for what is typed.
const SHELL: &str = "stty -echo; echo ready; while read line; do eval \"$line\"; done";

#[tokio::test]
async fn a_shell_is_left_and_come_back_to() {
    let (daemon, vm) = web().await;
    let mut person = Terminal::run(daemon.nexusctl(&["attach", "web"]));
    let before = person.settings();
    person.types("stty -echo; echo si''ze $(stty size)\r");
    person.sees("size 30 160").await;
    assert!(person.settings() != before, "every key is the guest's");
    person.resize(100, 40);
    person.types("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.05; done; echo resi''zed\r");
    person.sees("resized").await;
    // It ends cat, and not nexusctl. What is typed before the shell reads again may be dropped: nothing is.
    person.types("(trap \"echo st''ill; exit\" INT; echo read''ing; cat)\r");
    person.sees("reading").await;
    // Only what cat repeats says that it is cat that the signal reaches, and not the shell that becomes it.
    person.types("repeated\r");
    person.sees("repeated").await;
    person.types("\x03");
    person.sees("still").await;
    person.types("\x1dd");
    let (code, said) = person.exits().await;
    assert_eq!(code, Some(0));
    has(&said, &["Left terminal main in VM web", "nexusctl attach web --name main"]);
    assert!(person.settings() == before, "the terminal is as it was");

    has(&ok(&daemon, &["attach", "web", "--list"]).await, &["EXEC", "main", "100x40"]);
    let listed = json(&daemon, &["attach", "web", "--list"]).await;
    assert_eq!((&listed[0]["name"], &listed[0]["columns"]), (&"main".into(), &100.into()));

    let daemon = daemon.replace().await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let mut again = Terminal::run(daemon.nexusctl(&["attach", "web"]));
    again.sees("resized").await;
    again.types("exit 7\r");
    let (code, _) = again.exits().await;
    assert_eq!(code, Some(7));
    assert!(again.settings() == before);
    has(&ok(&daemon, &["attach", "web", "--list"]).await, &["No terminals are open in VM web."]);
}

#[tokio::test]
async fn a_command_has_a_terminal_where_that_is_asked_for() {
    let (daemon, _vm) = web().await;
    let script = "test -t 0 && test -t 1 && echo \"on $TERM\"; stty size; read line; echo \"<$line>\"; exit 5";
    let mut person = Terminal::run(daemon.nexusctl(&["exec", "-it", "web", "--", "sh", "-c", script]));
    person.sees("on xterm").await;
    person.sees("30 160").await;
    person.types("hello\r");
    let (code, said) = person.exits().await;
    assert_eq!(code, Some(5));
    has(&said, &["<hello>"]);
    let mut person =
        Terminal::run(daemon.nexusctl(&["exec", "-it", "web", "--", "sh", "-c", "echo re''ady; sleep 1000"]));
    person.sees("ready").await;
    person.types("\x03");
    assert_eq!(person.exits().await.0, Some(128 + 2));
    let said = ctl(&daemon, &["exec", "-it", "web", "--", "true"]).await;
    assert_eq!(said.code, Some(125));
    has(&said.err, &["standard input is no terminal"]);
    let said = ctl(&daemon, &["attach", "web"]).await;
    assert_eq!(said.code, Some(2));
}

#[tokio::test]
async fn the_terminal_is_given_back_however_nexusctl_ends() {
    let (daemon, _vm) = web().await;
    let note = daemon.home.path().join("note");
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let _ = fs::remove_file(&note);
        let script = format!("echo $$ >{}; printf '\\033[?1049h'; {SHELL}", note.display());
        let mut person = Terminal::run(daemon.nexusctl(&["exec", "-it", "web", "--", "sh", "-c", &script]));
        let before = person.settings();
        person.sees("ready").await;
        assert!(person.settings() != before);
        let command = pid_in(&note).await;
        person.signal(signal);
        // A terminal ends with its viewer.
        has_died(command).await;
        person.is_given_back(&before).await;
        person.sees("\x1b[?2004l").await;
        let back = if signal == Signal::SIGKILL { "\x1b[?1047l" } else { "\x1b[?1049l" };
        assert!(person.shown().contains(back), "{signal}");
    }
}

#[tokio::test]
async fn the_terminal_of_who_only_looks_is_given_back_as_well() {
    let (daemon, _vm) = web().await;
    let mut person = Terminal::run(daemon.nexusctl(&["attach", "web"]));
    person.types("stty -echo; printf '\\033[?1049h'; echo dra''wn\r");
    person.sees("drawn").await;
    let mut onlooker = Terminal::run(daemon.nexusctl(&["attach", "web", "--read-only"]));
    onlooker.sees("drawn").await;
    onlooker.signal(Signal::SIGKILL);
    onlooker.sees("\x1b[?1047l").await;
}

#[tokio::test]
async fn who_only_looks_on_changes_nothing() {
    let (daemon, _vm) = web().await;
    let mut person = Terminal::run(daemon.nexusctl(&["attach", "web"]));
    person.resize(100, 40);
    person.types("stty -echo; until [ \"$(stty size)\" = '40 100' ]; do sleep 0.05; done; echo dra''wn\r");
    person.sees("drawn").await;
    let mut onlooker = Terminal::run(daemon.nexusctl(&["attach", "web", "--read-only"]));
    let before = onlooker.settings();
    onlooker.sees("drawn").await;
    onlooker.resize(120, 50);
    // As a terminal answers by itself when it is asked where the cursor is.
    onlooker.types("typed\x1b[7;7R");
    person.types("echo si''ze $(stty size)\r");
    for both in [&mut person, &mut onlooker] {
        both.sees("size 40 100").await;
    }
    // Whatever the onlooker had told the daemon would have come before this.
    has(&ok(&daemon, &["attach", "web", "--list"]).await, &["100x40"]);
    assert!(!onlooker.shown().contains("typed") && !onlooker.shown().contains("7;7R"), "{}", onlooker.shown());
    onlooker.types("\x1dd");
    let (code, said) = onlooker.exits().await;
    assert_eq!(code, Some(0));
    has(&said, &["Left terminal main in VM web"]);
    assert!(onlooker.settings() == before);
    let mut onlooker = Terminal::run(daemon.nexusctl(&["attach", "web", "--read-only"]));
    onlooker.sees("size").await;
    // Ctrl-C is for nexusctl.
    assert!(onlooker.settings().local_flags.contains(LocalFlags::ISIG));
    onlooker.signal(Signal::SIGINT);
    assert_eq!(onlooker.exits().await.0, Some(128 + 2));
    assert!(onlooker.settings() == before);
}

#[tokio::test]
async fn a_stop_from_outside_gives_the_terminal_back_meanwhile() {
    let (daemon, _vm) = web().await;
    let mut person = Terminal::run(daemon.nexusctl(&["exec", "-it", "web", "--", "sh", "-c", SHELL]));
    let before = person.settings();
    person.sees("ready").await;
    let raw = person.settings();
    person.signal(Signal::SIGTSTP);
    person.stops().await;
    assert!(person.settings() == before);
    person.signal(Signal::SIGCONT);
    person.is_given_back(&raw).await;
    person.types("echo ba''ck; exit 3\r");
    let (code, said) = person.exits().await;
    assert_eq!(code, Some(3));
    has(&said, &["back"]);
}
