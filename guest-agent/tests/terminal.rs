//! Terminals of an agent that is a process, opened and looked at by the host's own client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod support;

use std::{
    fs::File,
    io::{Read, Write},
    sync::{Arc, Mutex},
    thread,
};

use nexus_host::agent::{AgentClient, AgentError, TerminalStream};
use nexus_model::ExitStatus;
use nexus_protocol::{Command, ExecState, FailureKind, Features, OpenTerminal, TerminalInfo, TerminalSize, Text};
use support::{Agent, bounded, is_alive, kind, pid_in, sh, until};

/// Somebody in front of a terminal: what it was sent is kept as it comes.
struct Person {
    exec: u64,
    keys: File,
    seen: Arc<Mutex<Vec<u8>>>,
    display: Option<thread::JoinHandle<()>>,
}

impl Person {
    fn at(opened: TerminalStream) -> Self {
        let keys = File::from(opened.stream);
        let mut display = keys.try_clone().unwrap();
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let shown = Arc::clone(&seen);
        let display = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = display.read(&mut chunk) {
                shown.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Self { exec: opened.id, keys, seen, display: Some(display) }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    async fn sees(&self, text: &str) {
        until(&format!("{text:?} is shown"), || self.text().contains(text)).await;
    }

    /// Waits until the terminal has ended, and says what was shown altogether.
    async fn watches_to_the_end(&mut self) -> String {
        let display = self.display.take().unwrap();
        bounded(tokio::task::spawn_blocking(move || display.join().unwrap())).await.unwrap();
        self.text()
    }

    fn leaves(self) {
        // The thread has a descriptor of its own, which a close would leave open.
        nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.keys), nix::sys::socket::Shutdown::Both)
            .unwrap();
    }
}

fn on_terminal(command: Command) -> OpenTerminal {
    OpenTerminal { command, ..OpenTerminal::default() }
}

fn named(name: &str, command: Command) -> OpenTerminal {
    OpenTerminal { command, name: Some(name.to_owned()), ..OpenTerminal::default() }
}

async fn open(client: &AgentClient, terminal: OpenTerminal) -> Person {
    Person::at(bounded(client.open_terminal(terminal)).await.unwrap())
}

async fn info(client: &AgentClient, exec: u64) -> Option<TerminalInfo> {
    let execs = bounded(client.list_execs()).await.unwrap();
    execs.into_iter().find(|info| info.exec == exec).and_then(|info| info.terminal)
}

async fn viewers(client: &AgentClient, exec: u64, count: u32) {
    let deadline = tokio::time::Instant::now() + support::PATIENCE;
    while info(client, exec).await.expect("the terminal is there").viewers != count {
        assert!(tokio::time::Instant::now() < deadline, "there are not {count} viewers");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_command_runs_on_a_terminal() {
    let agent = Agent::start();
    let (client, welcome, _events) = agent.connect().await;
    assert!(welcome.features.has(Features::TERMINALS));
    let script =
        "test -t 0 && test -t 1 && test -t 2 && echo \"$TERM on $(tty)\"; stty size; read line; echo \"<$line>\"";
    let size = Some(TerminalSize::new(132, 43));
    let mut person = open(&client, OpenTerminal { size, ..on_terminal(sh(&format!("{script}; exit 5"))) }).await;
    person.sees("xterm-256color on /dev/pts/").await;
    person.sees("43 132\r\n").await;
    person.types("hello\r");
    let text = person.watches_to_the_end().await;
    assert!(text.contains("hello\r\n<hello>\r\n"), "{text:?}");
    assert_eq!(bounded(client.wait_exec(person.exec)).await.unwrap(), ExitStatus::Code(5));
    let listed = bounded(client.list_execs()).await.unwrap();
    assert!(matches!(listed[0].state, ExecState::Ended(_)));
    assert_eq!(listed[0].terminal, None, "it has ended");
}

#[tokio::test]
async fn keys_that_interrupt_stop_and_end_do_so() {
    let agent = Agent::start();
    let client = agent.client().await;
    let ready = "stty -echo; echo ready";
    let mut person = open(&client, on_terminal(sh(&format!("{ready}; exec sleep 1000")))).await;
    person.sees("ready").await;
    person.types("\x03");
    assert_eq!(bounded(client.wait_exec(person.exec)).await.unwrap(), ExitStatus::Signal(libc::SIGINT));

    let mut person = open(&client, on_terminal(sh(&format!("{ready}; cat; exit 3")))).await;
    person.sees("ready").await;
    person.types("\x04");
    assert_eq!(bounded(client.wait_exec(person.exec)).await.unwrap(), ExitStatus::Code(3));

    // A shell with job control is told of it.
    let mut command = Command::new(["bash", "--norc", "-i"]);
    command.env.insert("PS1".to_owned(), "$ ".to_owned());
    let mut person = open(&client, on_terminal(command)).await;
    person.types("sh -c 'echo wa''iting; exec sleep 1000'\r");
    person.sees("waiting").await;
    person.types("\x1a");
    person.sees("Stopped").await;
    person.types("exit 7\r");
    person.sees("There are stopped jobs").await;
    person.types("exit 7\r");
    assert_eq!(bounded(client.wait_exec(person.exec)).await.unwrap(), ExitStatus::Code(7));
}

#[tokio::test]
async fn without_a_command_it_is_the_login_shell() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut person = open(&client, on_terminal(Command::default())).await;
    person.types("echo \"<$0>\"; exit 9\r");
    person.sees("<-").await;
    assert_eq!(bounded(client.wait_exec(person.exec)).await.unwrap(), ExitStatus::Code(9));
    let listed = bounded(client.list_execs()).await.unwrap();
    assert_eq!(listed[0].argv.len(), 1);
    assert!(listed[0].argv[0].starts_with('/'), "{:?}", listed[0].argv);
}

#[tokio::test]
async fn programs_are_told_of_another_size() {
    let agent = Agent::start();
    let client = agent.client().await;
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut person = open(&client, on_terminal(sh(script))).await;
    person.sees("ready").await;
    assert_eq!(info(&client, person.exec).await.unwrap().size, TerminalSize::default());
    let size = TerminalSize::new(101, 37);
    bounded(client.resize_exec(person.exec, size)).await.unwrap();
    person.sees("37 101").await;
    assert_eq!(info(&client, person.exec).await.unwrap().size, size);
    person.types("\x03");
    person.watches_to_the_end().await;
    assert_eq!(kind(client.resize_exec(person.exec, size).await), FailureKind::NotFound);
    let exec = bounded(client.exec(&Command::new(["sleep", "1000"]), None)).await.unwrap();
    assert_eq!(kind(client.resize_exec(exec.id, size).await), FailureKind::NotFound);
}

#[tokio::test]
async fn a_terminal_without_a_name_ends_with_its_last_viewer() {
    let agent = Agent::start();
    let client = agent.client().await;
    let note = agent.folder.path().join("note");
    let script =
        format!("trap '' HUP; setsid -f sh -c 'echo $$ >{}; exec sleep 1000'; exec sleep 1000", note.display());
    let person = open(&client, on_terminal(sh(&script))).await;
    let daemon = pid_in(&note).await;
    let exec = person.exec;
    person.leaves();
    assert_eq!(bounded(client.wait_exec(exec)).await.unwrap(), ExitStatus::Signal(9));
    until("the daemon is dead", || !is_alive(daemon)).await;
}

#[tokio::test]
async fn a_terminal_with_a_name_is_found_again_as_it_was() {
    let agent = Agent::start();
    let client = agent.client().await;
    let script = "stty -echo; i=0; while [ $i -lt 100 ]; do echo line-$i; i=$((i+1)); done; \
        printf '\\033[32mready '; while read line; do echo \"<$line>\"; done";
    let person = open(&client, named("work", sh(script))).await;
    person.sees("ready").await;
    let exec = person.exec;
    assert_eq!(
        info(&client, exec).await.unwrap(),
        TerminalInfo { name: Some(Text::from("work")), size: TerminalSize::default(), viewers: 1 }
    );
    person.leaves();
    viewers(&client, exec, 0).await;

    // Another connection, as another daemon would have it.
    let client = agent.client().await;
    let opened = bounded(client.open_terminal(named("work", Command::default()))).await.unwrap();
    assert!(!opened.created && opened.id == exec);
    let mut again = Person::at(opened);
    again.sees("ready").await;
    let text = again.text();
    for number in 0..100 {
        assert!(text.contains(&format!("line-{number}")), "line {number} is not in {text:?}");
    }
    again.types("still here\r");
    again.sees("<still here>").await;
    // A command for it makes no sense any more.
    let other = bounded(client.open_terminal(named("work", sh("true")))).await;
    assert_eq!(kind(other), FailureKind::Invalid);
    bounded(client.signal_exec(exec, libc::SIGKILL)).await.unwrap();
    again.watches_to_the_end().await;
    let opened = bounded(client.open_terminal(named("work", sh("read line")))).await.unwrap();
    assert!(opened.created && opened.id != exec, "the name is free again");
}

#[tokio::test]
async fn several_look_at_one_terminal() {
    let agent = Agent::start();
    let client = agent.client().await;
    let script = "stty -echo; echo ready; while read line; do echo \"<$line>\"; done";
    let mut first = open(&client, named("shared", sh(script))).await;
    first.sees("ready").await;
    let mut second = open(&client, named("shared", Command::default())).await;
    let mut onlooker = open(&client, OpenTerminal { read_only: true, ..named("shared", Command::default()) }).await;
    onlooker.sees("ready").await;
    onlooker.types("not taken\r");
    first.types("one\r");
    second.sees("<one>").await;
    second.types("two\r");
    for person in [&first, &second, &onlooker] {
        person.sees("<one>\r\n<two>\r\n").await;
        assert!(!person.text().contains("not taken"));
    }
    viewers(&client, first.exec, 3).await;
    let mut more = Vec::new();
    for _ in 0..13 {
        more.push(open(&client, named("shared", Command::default())).await);
    }
    let surplus = bounded(client.open_terminal(named("shared", Command::default()))).await;
    assert_eq!(kind(surplus), FailureKind::Exhausted);
    bounded(client.signal_exec(first.exec, libc::SIGKILL)).await.unwrap();
    for person in [&mut first, &mut second, &mut onlooker].into_iter().chain(&mut more) {
        person.watches_to_the_end().await;
    }
}

#[tokio::test]
async fn a_viewer_that_does_not_read_holds_up_nobody_and_sees_the_end() {
    let agent = Agent::start();
    let client = agent.client().await;
    let go = agent.folder.path().join("go");
    let script = format!(
        "stty -echo; while [ ! -e {} ]; do sleep 0.05; done; seq 1 200000; printf 'the end'; read line",
        go.display()
    );
    let mut reader = open(&client, named("busy", sh(&script))).await;
    let stalled = bounded(client.open_terminal(named("busy", Command::default()))).await.unwrap();
    std::fs::write(&go, "").unwrap();
    reader.sees("the end").await;
    let lines: String = (1..=200_000).map(|number| format!("{number}\r\n")).collect();
    assert!(reader.text().contains(&lines), "who reads gets every byte");
    let late = Person::at(stalled);
    late.sees("the end").await;
    let text = late.text();
    assert!(text.len() < lines.len() / 2, "{} bytes were kept for it", text.len());
    assert!(text.contains("199999"), "it sees the screen: {:?}", &text[text.len().saturating_sub(500)..]);
    reader.types("\r");
    reader.watches_to_the_end().await;
}

#[tokio::test]
async fn a_terminal_goes_on_when_nobody_who_looks_at_it_reads() {
    let agent = Agent::start();
    let client = agent.client().await;
    let done = agent.folder.path().join("done");
    let script = format!("stty -echo; seq 1 200000; echo >{}; read line", done.display());
    let stalled = bounded(client.open_terminal(named("alone", sh(&script)))).await.unwrap();
    until("the command has written everything", || done.exists()).await;
    let mut late = Person::at(stalled);
    late.sees("200000").await;
    late.types("\r");
    let text = late.watches_to_the_end().await;
    assert!(!text.contains("\n100000\r"), "what it missed is not kept");
}

#[tokio::test]
async fn who_comes_while_a_program_has_the_screen_sees_what_is_behind_it_afterwards() {
    let agent = Agent::start();
    let client = agent.client().await;
    let script = "stty -echo; echo be''hind; printf '\\033[?1049h\\033[Hin ''front'; read line; \
                  printf '\\033[?1049l'; read line";
    let mut first = open(&client, named("full", sh(script))).await;
    first.sees("in front").await;
    let second = open(&client, named("full", Command::default())).await;
    second.sees("in front").await;
    assert!(!second.text().contains("behind"), "of two screens only one can be drawn");
    first.types("\r");
    second.sees("behind").await;
}

#[tokio::test]
async fn a_single_viewer_gets_every_byte_however_slow_it_is() {
    let agent = Agent::start();
    let client = agent.client().await;
    let opened = bounded(client.open_terminal(on_terminal(sh("stty -opost; seq 1 300000")))).await.unwrap();
    // Longer than a terminal that goes on by itself would wait.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let mut person = Person::at(opened);
    let text = person.watches_to_the_end().await;
    let lines: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(text == lines, "{} of {} bytes", text.len(), lines.len());
    assert_eq!(bounded(client.wait_exec(person.exec)).await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn nobody_is_stuck_behind_input_that_is_not_read() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut person = open(&client, named("deaf", sh("stty raw -echo; echo ready; exec sleep 1000"))).await;
    person.sees("ready").await;
    let exec = person.exec;
    let mut keys = person.keys.try_clone().unwrap();
    let typing = thread::spawn(move || keys.write_all(&[b'x'; 1 << 20]));
    bounded(tokio::task::spawn_blocking(move || typing.join().unwrap())).await.unwrap().unwrap();
    person.leaves();
    viewers(&client, exec, 0).await;
    person = open(&client, named("deaf", Command::default())).await;
    bounded(client.signal_exec(exec, libc::SIGKILL)).await.unwrap();
    person.watches_to_the_end().await;
}

#[tokio::test]
async fn terminals_run_out_with_a_clear_word() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut people = Vec::new();
    for number in 0..100 {
        people.push(open(&client, named(&format!("t{number}"), Command::new(["sleep", "1000"]))).await);
    }
    match bounded(client.open_terminal(named("one-more", Command::default()))).await {
        Err(AgentError::Failed(failure)) => {
            assert_eq!(failure.kind, FailureKind::Exhausted);
            assert_eq!(failure.message.as_str(), "100 terminals are open already");
        }
        other => panic!("{other:?}"),
    }
    bounded(client.signal_exec(people[0].exec, libc::SIGKILL)).await.unwrap();
    people[0].watches_to_the_end().await;
    open(&client, named("one-more", Command::new(["sleep", "1000"]))).await;
}

#[tokio::test]
async fn says_what_is_wrong_with_a_terminal() {
    let agent = Agent::start();
    let client = agent.client().await;
    assert_eq!(kind(client.open_terminal(named("x", Command::new(["no-such-program"]))).await), FailureKind::NotFound);
    let command = Command { user: Some("no-such-user".to_owned()), ..Command::default() };
    assert_eq!(kind(client.open_terminal(named("x", command)).await), FailureKind::Invalid);
    let invalid = client.open_terminal(named("no name", Command::default())).await;
    assert!(matches!(invalid, Err(AgentError::InvalidTerminal(_))));
    let invalid = client.open_terminal(on_terminal(Command::new(["a\0b"]))).await;
    assert!(matches!(invalid, Err(AgentError::InvalidTerminal(_))));
    assert!(bounded(client.list_execs()).await.unwrap().is_empty());
}
