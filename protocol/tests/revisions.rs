//! What an agent or a host of a revision has once said is understood for ever by the other side of that revision. The
//! frames are as programs write them that were released, or about to be: never change one, only add more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use nexus_model::ExitStatus;
use nexus_protocol::{
    Answer, Blob, Call, Channel, Command, CopyIn, CopyOut, CopyReport, Ended, Event, Exec, ExecState, FailureKind,
    Features, FileContent, Label, Message, OpenTerminal, Purpose, ReadFile, Refresh, Refreshed, Request, Role,
    ShutdownMode, StreamAnswer, StreamHeader, StreamInfo, StreamKind, TerminalInfo, TerminalSize, Text, Ticket,
    ViewerHeader, WriteFile, frame,
};
use serde::de::DeserializeOwned;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/revision-1"].iter().collect()
}

fn recorded<T: DeserializeOwned>(name: &str) -> T {
    let payload = fs::read(folder().join(name).with_extension("json")).unwrap();
    frame::decode(&payload).unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

fn answer(name: &str) -> Answer {
    match recorded(name) {
        Message::Answer { answer, .. } => answer,
        other => panic!("{name} is no answer: {other:?}"),
    }
}

fn failure(name: &str) -> FailureKind {
    match recorded(name) {
        Message::Failure { failure, .. } => failure.kind,
        other => panic!("{name} is no failure: {other:?}"),
    }
}

fn call(name: &str) -> Call {
    recorded::<Request>(name).call
}

#[test]
fn what_an_agent_said_is_understood() {
    let Answer::Welcome(welcome) = answer("agent-welcome") else { panic!("no welcome") };
    assert_eq!((welcome.revision, welcome.agent_version.as_str(), welcome.role), (1, "0.1.0", Role::Process));
    assert_eq!((welcome.hostname.as_str(), welcome.addresses.len()), ("box-1", 2));
    let Answer::Welcome(welcome) = answer("agent-welcome-features") else { panic!("no welcome") };
    let words =
        [Features::CLOCK, Features::COPY, Features::FILES, Features::STREAMS, Features::TERMINALS, Features::TOOLS];
    assert_eq!((welcome.role, &welcome.features), (Role::Init, &words.into_iter().collect()));
    assert_eq!(welcome.metadata, [(Text::from("name"), Text::from("demo"))].into());
    assert_eq!(answer("agent-pong"), Answer::Pong);
    let Answer::Ran(ran) = answer("agent-ran") else { panic!("did not run") };
    assert_eq!((ran.status, ran.timed_out, ran.truncated), (ExitStatus::Code(3), false, false));
    assert_eq!((ran.stdout.0.as_slice(), ran.stderr.0.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    let Answer::Started(started) = answer("agent-started") else { panic!("did not start") };
    assert_eq!(started.stream, None);
    let Answer::Started(numbered) = answer("agent-started-stream") else { panic!("did not start") };
    assert_eq!(numbered.stream, Some(4));
    let ended = Ended { status: ExitStatus::Signal(15), timed_out: false };
    assert_eq!(answer("agent-ended"), Answer::Ended(ended));
    for (name, state) in [("agent-execs-running", ExecState::Running), ("agent-execs-ended", ExecState::Ended(ended))] {
        let Answer::Execs(execs) = answer(name) else { panic!("{name} is no list") };
        assert_eq!((execs[0].exec, execs[0].state, execs[0].argv.len()), (started.exec, state, 3));
    }
    let Answer::Terminal(terminal) = answer("agent-terminal") else { panic!("no terminal") };
    assert!(terminal.created && terminal.port == 300 && terminal.stream.is_none());
    let Answer::Terminal(again) = answer("agent-terminal-stream") else { panic!("no terminal") };
    assert_eq!((again.created, again.port, again.stream), (false, 301, Some(4)));
    let Answer::Execs(execs) = answer("agent-execs-terminal") else { panic!("no list") };
    let info = TerminalInfo { name: Some(Text::from("main")), size: TerminalSize::new(101, 37), viewers: 1 };
    assert_eq!((execs[0].exec, execs[0].terminal.as_ref()), (terminal.exec, Some(&info)));
    let Answer::Opened(opened) = answer("agent-opened") else { panic!("not opened") };
    assert_eq!((opened.port, opened.token), (200, recorded::<Ticket>("host-ticket").token));
    let Answer::Opened(numbered) = answer("agent-opened-stream") else { panic!("not opened") };
    assert_eq!((opened.stream, numbered.stream), (None, Some(5)));
    assert_eq!(answer("agent-detached"), Answer::Detached { exec: started.exec + 2 });
    let Answer::File(file) = answer("agent-file") else { panic!("no file") };
    assert_eq!(file, FileContent { data: Blob(b"web\n".to_vec()), size: 4, mode: 0o644, more: false });
    assert_eq!(recorded::<CopyReport>("agent-copy-working"), CopyReport::Working);
    let stream = StreamInfo {
        stream: 3,
        kind: StreamKind::Terminal,
        port: 300,
        label: Some(Label::from(":1.42")),
        age_us: 5_003_217,
        from_host: 11,
        to_host: 4096,
    };
    assert_eq!(answer("agent-streams"), Answer::Streams([stream].into_iter().collect()));
    assert_eq!(answer("agent-done"), Answer::Done);
    assert_eq!(answer("agent-refreshed"), Answer::Refreshed(Refreshed { stepped_us: 5_003_217 }));
    assert_eq!(failure("agent-failure-not-found"), FailureKind::NotFound);
    assert_eq!(failure("agent-failure-unsupported"), FailureKind::Unsupported);
    let ending = Message::Event(Event::Ending { mode: ShutdownMode::Poweroff });
    assert_eq!(recorded::<Message>("agent-event-ending"), ending);
    assert_eq!(recorded::<StreamAnswer>("agent-stream-open"), StreamAnswer::Open);
    assert!(
        matches!(recorded("agent-stream-failure"), StreamAnswer::Failure(failure) if failure.kind == FailureKind::Invalid)
    );
}

#[test]
fn what_a_host_said_is_understood() {
    let Call::Hello(hello) = call("host-hello") else { panic!("no hello") };
    assert_eq!((hello.revision, hello.token.unwrap().reveal()), (1, "5ecret"));
    assert!(hello.features.is_empty());
    let Call::Hello(hello) = call("host-hello-features") else { panic!("no hello") };
    assert!(hello.token.is_none() && hello.features.has("news"));
    assert_eq!(call("host-ping"), Call::Ping);
    let detached = Command { user: Some("daemon".to_owned()), ..Command::new(["sleep", "1000"]) };
    assert_eq!(call("host-detach"), Call::Detach(detached));
    let run = Command {
        env: [("K".to_owned(), "V".to_owned())].into(),
        cwd: Some("/".to_owned()),
        timeout_ms: Some(5000),
        ..Command::new(["sh", "-c", "echo out; echo err >&2; exit 3"])
    };
    assert_eq!(call("host-run"), Call::Run(run));
    assert_eq!(call("host-exec"), Call::Exec(Exec { command: Command::new(["sh", "-c", "cat; exit 7"]), label: None }));
    let owned = Exec { command: Command::new(["cat"]), label: Some(Label::from(":1.42")) };
    assert_eq!(call("host-exec-label"), Call::Exec(owned));
    let header: StreamHeader = recorded("host-stream");
    assert_eq!(header.channel, Channel::Stdin);
    assert_eq!(call("host-wait-exec"), Call::WaitExec { exec: header.exec });
    assert_eq!(call("host-signal-exec"), Call::SignalExec { exec: header.exec, signal: 15 });
    let shell = Command { env: [("TERM".to_owned(), "xterm-256color".to_owned())].into(), ..Command::default() };
    let (name, size) = (Some("main".to_owned()), Some(TerminalSize::new(132, 43)));
    let open = OpenTerminal { command: shell, name, size, read_only: false, label: None };
    assert_eq!(call("host-open-terminal"), Call::OpenTerminal(open));
    let label = Some(Label::from(":1.42"));
    let open = OpenTerminal {
        command: Command::new(["top"]),
        read_only: true,
        label: label.clone(),
        ..OpenTerminal::default()
    };
    assert_eq!(call("host-open-terminal-label"), Call::OpenTerminal(open));
    let viewer: ViewerHeader = recorded("host-viewer");
    let size = TerminalSize::new(101, 37);
    assert_eq!(call("host-resize-exec"), Call::ResizeExec { exec: viewer.terminal, size });
    assert_eq!(call("host-list-execs"), Call::ListExecs);
    assert_eq!(call("host-list-streams"), Call::ListStreams);
    assert_eq!(call("host-wait-stream"), Call::WaitStream { stream: 3 });
    assert_eq!(call("host-close-stream"), Call::CloseStream { stream: 3 });
    assert_eq!(call("host-shutdown"), Call::Shutdown { mode: ShutdownMode::Poweroff });
    assert_eq!(call("host-cancel"), Call::Cancel { request: 8 });
    let path = "/etc/hostname".to_owned();
    assert_eq!(call("host-read-file"), Call::ReadFile(ReadFile { path: path.clone(), offset: 0 }));
    assert_eq!(call("host-delete-file"), Call::DeleteFile { path: path.clone(), recursive: true });
    let (data, owner) = (Blob(b"web\n".to_vec()), Some("root".to_owned()));
    let write = WriteFile { path, data, mode: Some(0o600), owner, append: true, folders: true };
    assert_eq!(call("host-write-file"), Call::WriteFile(write));
    let copy = CopyIn { path: "/srv".to_owned(), name: Some("site".to_owned()), replace: true };
    assert_eq!(call("host-copy-in"), Call::OpenStream { purpose: Purpose::CopyIn(copy), label: None });
    let copy = CopyOut { path: "/srv/site".to_owned() };
    assert_eq!(call("host-copy-out"), Call::OpenStream { purpose: Purpose::CopyOut(copy), label: None });
    let CopyReport::Done(done) = recorded("copy-done") else { panic!("not done") };
    assert_eq!((done.entries, done.bytes, done.left_out, &done.sha256.as_str()[..4]), (3, 1000, 1, "ba78"));
    let CopyReport::Failure(failure) = recorded("copy-failure") else { panic!("no failure") };
    assert_eq!(failure.kind, FailureKind::Invalid);
    let env = [("K".to_owned(), "V".to_owned())].into();
    assert_eq!(call("host-open-stream"), Call::OpenStream { purpose: Purpose::Tools { env }, label: None });
    let purpose = Purpose::Tools { env: Default::default() };
    assert_eq!(call("host-open-stream-label"), Call::OpenStream { purpose, label });
    assert_eq!(call("host-freeze"), Call::Freeze);
    let entropy = Blob(b"not random".to_vec());
    assert_eq!(call("host-refresh"), Call::Refresh(Refresh { clock_us: 1_763_751_600_000_000, entropy }));
}

/// What is recorded is looked at above.
#[test]
fn no_frame_is_left_out() {
    let source = include_str!("revisions.rs");
    let names: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    for name in &names {
        assert!(source.contains(&format!("\"{name}\"")), "nothing is known of {name}");
    }
    assert_eq!(names.len(), 57);
}
