//! Every parser takes any bytes, and what is written is what is read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use nexus_model::ExitStatus;
use nexus_protocol::{
    Answer, Blob, Call, Channel, Command, CopyIn, CopyOut, CopyReport, Ended, Event, Exec, ExecInfo, ExecState,
    Failure, FailureKind, Features, FileContent, Hello, Label, MAX_COMMAND_BYTES, MAX_FILE_BYTES, MAX_FRAME_BYTES,
    MAX_RUN_OUTPUT_BYTES, MAX_STREAM_FRAME_BYTES, Message, Numbered, OpenTerminal, Opened, OpenedTerminal, Purpose,
    Ran, ReadFile, Refresh, Refreshed, Request, Role, ShutdownMode, Started, StreamAnswer, StreamHeader, StreamInfo,
    StreamKind, StreamList, TerminalInfo, TerminalSize, Text, Ticket, Token, ViewerHeader, Welcome, WriteFile,
    frame::{self, FrameError, read_one, write_one},
};
use proptest::{collection::vec, option, prelude::*};
use tokio_util::codec::Decoder;

fn text() -> impl Strategy<Value = Text> {
    any::<String>().prop_map(Text::from)
}

fn command() -> impl Strategy<Value = Command> {
    let env = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4);
    let words = (vec(any::<String>(), 0..4), env, option::of(any::<String>()), option::of(any::<String>()));
    (words, any::<Option<u64>>()).prop_map(|((argv, env, cwd, user), timeout_ms)| Command {
        argv,
        env,
        cwd,
        user,
        timeout_ms,
    })
}

fn features() -> impl Strategy<Value = Features> {
    vec("[a-z0-9-]{1,64}", 0..5).prop_map(|words| words.iter().map(String::as_str).collect())
}

fn mode() -> impl Strategy<Value = ShutdownMode> {
    prop_oneof![Just(ShutdownMode::Poweroff), Just(ShutdownMode::Reboot)]
}

fn size() -> impl Strategy<Value = TerminalSize> {
    any::<(u32, u32)>().prop_map(|(columns, rows)| TerminalSize::new(columns, rows))
}

fn open_terminal() -> impl Strategy<Value = OpenTerminal> {
    (command(), option::of(any::<String>()), option::of(size()), any::<bool>(), option::of(label()))
        .prop_map(|(command, name, size, read_only, label)| OpenTerminal { command, name, size, read_only, label })
}

fn label() -> impl Strategy<Value = Label> {
    any::<String>().prop_map(|words| Label::from(words.as_str()))
}

fn stream() -> impl Strategy<Value = StreamInfo> {
    let kind = prop_oneof![Just(StreamKind::Tools), Just(StreamKind::Terminal), Just(StreamKind::Copy)];
    (any::<(u64, u32, u64, u64, u64)>(), kind, option::of(label())).prop_map(
        |((stream, port, age_us, from_host, to_host), kind, label)| StreamInfo {
            stream,
            kind,
            port,
            label,
            age_us,
            from_host,
            to_host,
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        (any::<u32>(), option::of(any::<String>()), features()).prop_map(|(revision, token, features)| {
            Call::Hello(Hello { revision, token: token.as_deref().map(Token::from), features })
        }),
        Just(Call::Ping),
        command().prop_map(Call::Run),
        (command(), label()).prop_map(|(command, label)| Call::Exec(Exec { command, label: Some(label) })),
        command().prop_map(Call::Detach),
        any::<u64>().prop_map(|exec| Call::WaitExec { exec }),
        any::<(u64, i32)>().prop_map(|(exec, signal)| Call::SignalExec { exec, signal }),
        Just(Call::ListExecs),
        open_terminal().prop_map(Call::OpenTerminal),
        (any::<u64>(), size()).prop_map(|(exec, size)| Call::ResizeExec { exec, size }),
        Just(Call::Freeze),
        (any::<u64>(), any::<Vec<u8>>())
            .prop_map(|(clock_us, entropy)| Call::Refresh(Refresh { clock_us, entropy: Blob(entropy) })),
        mode().prop_map(|mode| Call::Shutdown { mode }),
        any::<u64>().prop_map(|request| Call::Cancel { request }),
        (any::<String>(), option::of(any::<String>()), any::<bool>()).prop_map(|(path, name, replace)| {
            Call::OpenStream { purpose: Purpose::CopyIn(CopyIn { path, name, replace }), label: None }
        }),
        (any::<String>(), option::of(label()))
            .prop_map(|(path, label)| Call::OpenStream { purpose: Purpose::CopyOut(CopyOut { path }), label }),
        Just(Call::ListStreams),
        any::<u64>().prop_map(|stream| Call::WaitStream { stream }),
        any::<u64>().prop_map(|stream| Call::CloseStream { stream }),
        (any::<String>(), any::<u64>()).prop_map(|(path, offset)| Call::ReadFile(ReadFile { path, offset })),
        (any::<String>(), any::<bool>()).prop_map(|(path, recursive)| Call::DeleteFile { path, recursive }),
        (any::<String>(), vec(any::<u8>(), 0..99), option::of(any::<u32>()), any::<bool>()).prop_map(
            |(path, data, mode, append)| {
                let data = Blob(data);
                Call::WriteFile(WriteFile { path, data, mode, append, ..WriteFile::default() })
            }
        ),
        proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4)
            .prop_map(|env| Call::OpenStream { purpose: Purpose::Tools { env }, label: None }),
    ]
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![
        any::<i32>().prop_map(ExitStatus::Code),
        any::<i32>().prop_map(ExitStatus::Signal),
        Just(ExitStatus::Unknown)
    ]
}

fn ended() -> impl Strategy<Value = Ended> {
    (status(), any::<bool>()).prop_map(|(status, timed_out)| Ended { status, timed_out })
}

fn answer() -> impl Strategy<Value = Answer> {
    let welcome = (vec(text(), 6), vec(any::<std::net::IpAddr>(), 0..3), option::of(text()), any::<u64>(), features())
        .prop_map(|(texts, addresses, metadata_problem, uptime_us, features)| {
            let text = |index: usize| texts[index].clone();
            Answer::Welcome(Box::new(Welcome {
                revision: 1,
                agent_version: text(0),
                run_id: text(1),
                role: Role::Init,
                boot_id: text(2),
                hostname: text(3),
                os_name: text(4),
                os_version: text(5),
                addresses,
                metadata: [(text(0), text(1))].into(),
                metadata_problem,
                uptime_us,
                features,
                next_terminal: Some(300),
            }))
        });
    let ran = (ended(), vec(any::<u8>(), 0..64), vec(any::<u8>(), 0..64), any::<bool>()).prop_map(
        |(Ended { status, timed_out }, stdout, stderr, truncated)| {
            Answer::Ran(Ran { status, timed_out, stdout: Blob(stdout), stderr: Blob(stderr), truncated })
        },
    );
    let terminal = (option::of(text()), size(), any::<u32>()).prop_map(|(name, size, viewers)| TerminalInfo {
        name,
        size,
        viewers,
    });
    let exec = (any::<u64>(), option::of(ended()), vec(text(), 0..3), option::of(terminal));
    let exec = exec.prop_map(|(exec, ended, argv, terminal)| ExecInfo {
        exec,
        state: ended.map_or(ExecState::Running, ExecState::Ended),
        argv,
        terminal,
    });
    prop_oneof![
        welcome,
        Just(Answer::Pong),
        any::<i64>().prop_map(|stepped_us| Answer::Refreshed(Refreshed { stepped_us })),
        ran,
        (any::<u64>(), any::<String>()).prop_map(|(exec, token)| Answer::Started(Started {
            exec,
            token: Token::from(token.as_str()),
            stream: Some(exec)
        })),
        ended().prop_map(Answer::Ended),
        any::<(u64, u32, String, bool, Option<u64>)>().prop_map(|(exec, port, token, created, stream)| {
            let next_terminal = stream.is_some().then_some(port);
            let token = Token::from(token.as_str());
            Answer::Terminal(OpenedTerminal { exec, port, token, created, stream, next_terminal })
        }),
        vec(stream(), 0..3).prop_map(|streams| Answer::Streams(streams.into_iter().collect())),
        vec(exec, 0..3).prop_map(Answer::Execs),
        any::<(u32, String, Option<u64>)>().prop_map(|(port, token, stream)| {
            Answer::Opened(Opened { port, token: Token::from(token.as_str()), stream })
        }),
        (vec(any::<u8>(), 0..99), any::<(u64, u32, bool)>()).prop_map(|(data, (size, mode, more))| {
            Answer::File(FileContent { data: Blob(data), size, mode, more })
        }),
        Just(Answer::Done),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u64>(), answer()).prop_map(|(id, answer)| Message::Answer { id, answer }),
        (any::<u64>(), text()).prop_map(|(id, message)| Message::Failure {
            id,
            failure: Failure { kind: FailureKind::Refused, message }
        }),
        mode().prop_map(|mode| Message::Event(Event::Ending { mode })),
    ]
}

/// Has every parser look at the same bytes.
fn parse_all(bytes: &[u8]) {
    let _ = frame::decode::<Request>(bytes);
    let _ = frame::decode::<Numbered>(bytes);
    let _ = frame::decode::<Message>(bytes);
    let _ = frame::decode::<StreamHeader>(bytes);
    let _ = frame::decode::<ViewerHeader>(bytes);
    let _ = frame::decode::<Ticket>(bytes);
    let _ = frame::decode::<CopyReport>(bytes);
    let _ = frame::decode::<StreamAnswer>(bytes);
}

proptest! {
    #[test]
    fn what_is_written_is_read(id: u64, call in call(), message in message(), exec: u64, secret: String) {
        let request = Request { id, call };
        prop_assert_eq!(&frame::decode::<Request>(&frame::encode(&request).unwrap()).unwrap(), &request);
        prop_assert_eq!(frame::decode::<Numbered>(&frame::encode(&request).unwrap()).unwrap(), Numbered { id });
        prop_assert_eq!(&frame::decode::<Message>(&frame::encode(&message).unwrap()).unwrap(), &message);
        for channel in Channel::ALL {
            let header = StreamHeader { exec, token: Token::from(secret.as_str()), channel };
            prop_assert_eq!(&frame::decode::<StreamHeader>(&frame::encode(&header).unwrap()).unwrap(), &header);
        }
        let header = ViewerHeader { terminal: exec, token: Token::from(secret.as_str()) };
        prop_assert_eq!(&frame::decode::<ViewerHeader>(&frame::encode(&header).unwrap()).unwrap(), &header);
    }

    #[test]
    fn any_bytes_are_taken(bytes in vec(any::<u8>(), 0..512)) {
        parse_all(&bytes);
        let mut codec = frame::codec();
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(payload)) = codec.decode(&mut buffer) {
            parse_all(&payload);
        }
    }

    /// Closer to what is understood than plain noise: valid frames with a few bytes changed, lost or doubled.
    #[test]
    fn broken_frames_are_taken(
        message in message(),
        call in call(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..8),
    ) {
        let opening = ViewerHeader { terminal: 7, token: Token::from("5ecret") };
        let request = Request { id: 1, call };
        for payload in [frame::encode(&message), frame::encode(&request), frame::encode(&opening)] {
            let payload = payload.unwrap();
            let mut bytes = payload.to_vec();
            for (place, byte, change) in &changes {
                if bytes.is_empty() {
                    break;
                }
                let place = place.index(bytes.len());
                match change {
                    0 => bytes[place] = *byte,
                    1 => bytes.truncate(place),
                    _ => bytes.insert(place, *byte),
                }
            }
            parse_all(&bytes);
        }
    }

    #[test]
    fn frames_are_found_however_they_are_cut(payloads in vec(vec(any::<u8>(), 0..100), 0..6), cut in 1..50_usize) {
        let mut wire = Vec::new();
        for payload in &payloads {
            wire.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
            wire.extend_from_slice(payload);
        }
        let (mut codec, mut buffer, mut found) = (frame::codec(), BytesMut::new(), Vec::new());
        for piece in wire.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some(payload) = codec.decode(&mut buffer).unwrap() {
                found.push(payload.to_vec());
            }
        }
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn text_is_safe_to_show(text: String, length in 0..3_usize) {
        let clean = Text::from(text.repeat(1 + length * 2000));
        prop_assert!(clean.len() <= Text::MAX_BYTES);
        prop_assert!(!clean.chars().any(char::is_control));
        prop_assert_eq!(Text::from(clean.as_str()), clean);
    }

    #[test]
    fn a_size_is_one_that_a_terminal_can_have(columns: u32, rows: u32) {
        let json = format!(r#"{{"columns":{columns},"rows":{rows}}}"#);
        let size = frame::decode::<TerminalSize>(json.as_bytes()).unwrap();
        prop_assert_eq!(size, TerminalSize::new(columns, rows));
        prop_assert!((1..=TerminalSize::MAX_COLUMNS).contains(&size.columns()));
        prop_assert!((1..=TerminalSize::MAX_ROWS).contains(&size.rows()));
        let fits = columns > 0 && columns <= 1000 && rows > 0 && rows <= 500;
        prop_assert_eq!(fits, (u32::from(size.columns()), u32::from(size.rows())) == (columns, rows));
    }

    #[test]
    fn a_valid_terminal_fits_into_a_frame(open in open_terminal()) {
        if open.validate().is_ok() {
            prop_assert!(open.name.as_deref().is_none_or(OpenTerminal::is_name));
            let frame = frame::encode(&Request { id: u64::MAX, call: Call::OpenTerminal(open) });
            prop_assert!(frame.is_ok());
        }
    }

    #[test]
    fn a_valid_command_fits_into_a_frame(call in command()) {
        if call.validate().is_ok() {
            let frame = frame::encode(&Request { id: u64::MAX, call: Call::Exec(Exec { command: call, label: None }) });
            prop_assert!(frame.is_ok());
        }
    }
}

#[test]
fn the_largest_of_everything_fits_into_a_frame() {
    let write = WriteFile {
        path: "\u{1}".repeat(4096),
        data: Blob(vec![0; MAX_FILE_BYTES]),
        mode: Some(u32::MAX),
        owner: Some("\u{1}".repeat(4096)),
        append: true,
        folders: true,
    };
    frame::encode(&Request { id: u64::MAX, call: Call::WriteFile(write) }).unwrap();
    // Control characters need six bytes each in JSON.
    let command = Command::new(["\u{1}".repeat(MAX_COMMAND_BYTES - 1)]);
    assert_eq!(command.validate(), Ok(()));
    frame::encode(&Request { id: u64::MAX, call: Call::Run(command) }).unwrap();
    assert!(Command::new(["\u{1}".repeat(MAX_COMMAND_BYTES)]).validate().is_err());

    let ran = Ran {
        status: ExitStatus::Code(0),
        timed_out: false,
        stdout: Blob(vec![0xff; MAX_RUN_OUTPUT_BYTES]),
        stderr: Blob(Vec::new()),
        truncated: true,
    };
    frame::encode(&Message::Answer { id: u64::MAX, answer: Answer::Ran(ran) }).unwrap();

    // Quotation marks are the worst that a text can hold: two bytes each.
    let info = ExecInfo {
        exec: u64::MAX,
        state: ExecState::Ended(Ended { status: ExitStatus::Signal(9), timed_out: true }),
        argv: vec![Text::from("\""); ExecInfo::MAX_ARGV_BYTES / 2],
        terminal: Some(TerminalInfo {
            name: Some(Text::from("n".repeat(OpenTerminal::MAX_NAME_BYTES))),
            size: TerminalSize::new(u32::MAX, u32::MAX),
            viewers: u32::MAX,
        }),
    };
    frame::encode(&Message::Answer { id: u64::MAX, answer: Answer::Execs(vec![info; 512]) }).unwrap();
}

#[test]
fn a_long_frame_is_refused_by_its_length() {
    let mut buffer = BytesMut::from(&u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_be_bytes()[..]);
    assert!(frame::codec().decode(&mut buffer).is_err());
    assert!(buffer.capacity() < MAX_FRAME_BYTES);
    let long = "x".repeat(MAX_FRAME_BYTES);
    assert!(matches!(frame::encode(&long), Err(FrameError::TooLarge { .. })));
}

#[tokio::test]
async fn one_frame_is_read_and_not_a_byte_more() {
    let header = StreamHeader { exec: 7, token: Token::from("x"), channel: Channel::Stdin };
    let mut wire = Vec::new();
    write_one(&mut wire, MAX_STREAM_FRAME_BYTES, &header).await.unwrap();
    wire.extend_from_slice(b"raw");
    let mut rest = &wire[..];
    assert_eq!(read_one::<StreamHeader>(&mut rest, MAX_STREAM_FRAME_BYTES).await.unwrap(), header);
    assert_eq!(rest, b"raw");

    let mut long = &[0, 0, 0x10, 1][..];
    let refused = read_one::<StreamHeader>(&mut long, MAX_STREAM_FRAME_BYTES).await;
    assert!(matches!(refused, Err(FrameError::TooLarge { length: 4097, limit: MAX_STREAM_FRAME_BYTES })));
    let mut short = &[0, 0, 0, 9, b'{'][..];
    assert!(matches!(read_one::<StreamHeader>(&mut short, 64).await, Err(FrameError::Io(_))));
}

#[test]
fn what_a_newer_peer_adds_is_ignored() {
    let request = br#"{"id":3,"call":{"run":{"argv":["true"],"colour":"blue"}},"trace":[1,2]}"#;
    assert_eq!(frame::decode::<Request>(request).unwrap().call, Call::Run(Command::new(["true"])));
    let unknown = br#"{"id":4,"call":{"levitate":{"height":3}}}"#;
    assert!(frame::decode::<Request>(unknown).is_err());
    assert_eq!(frame::decode::<Numbered>(unknown).unwrap(), Numbered { id: 4 });
    let failure = br#"{"failure":{"id":5,"failure":{"kind":"out-of-luck","message":"no"}}}"#;
    let Message::Failure { failure, .. } = frame::decode(failure).unwrap() else { panic!("not a failure") };
    assert_eq!(failure.kind, FailureKind::System);
    for event in ["\"thawed\"", r#"{"stream-ended":{"stream":3}}"#, r#"{"thawed":null}"#] {
        let message = format!(r#"{{"event":{event}}}"#);
        assert_eq!(frame::decode::<Message>(message.as_bytes()).unwrap(), Message::Event(Event::Unknown), "{event}");
    }
    for event in ["\"ending\"", "{}", "3", r#"{"ending":{}}"#, r#"{"thawed":1,"ending":{"mode":"reboot"}}"#] {
        let message = format!(r#"{{"event":{event}}}"#);
        assert!(frame::decode::<Message>(message.as_bytes()).is_err(), "{event}");
    }
    assert!(frame::encode(&Message::Event(Event::Unknown)).is_err(), "what is unknown can't be said");
}

#[test]
fn names_of_terminals_are_plain() {
    for name in ["main", "A-1_b.c", &"x".repeat(64)] {
        assert!(OpenTerminal::is_name(name), "{name}");
    }
    for name in ["", "a b", "a/b", "ä", "\u{1b}", "a\n", &"x".repeat(65)] {
        assert!(!OpenTerminal::is_name(name), "{name}");
    }
    let open = |name: &str, argv: &[&str]| OpenTerminal {
        name: Some(name.to_owned()),
        command: Command::new(argv.iter().copied()),
        ..OpenTerminal::default()
    };
    assert!(open("main", &[]).validate().is_ok());
    assert!(open("main", &["sh"]).validate().is_ok());
    assert!(open("no name", &["sh"]).validate().is_err());
    assert!(open("main", &["sh", "a\0b"]).validate().is_err());
    assert!(open("main", &[""]).validate().is_err());
}

#[test]
fn metadata_is_heard_up_to_a_bound_of_bytes() {
    let welcome = |entries: usize, bytes: usize| {
        let value = "x".repeat(bytes);
        let metadata: Vec<String> = (0..entries).map(|number| format!(r#""{number:04}":"{value}""#)).collect();
        let welcome = format!(
            r#"{{"revision":1,"agent_version":"","run_id":"","role":"init","boot_id":"","hostname":"","os_name":"",
            "os_version":"","addresses":[],"metadata":{{{}}},"uptime_us":1}}"#,
            metadata.join(",")
        );
        frame::decode::<Welcome>(welcome.as_bytes()).unwrap().metadata
    };
    assert_eq!(welcome(200, 300).len(), 200);
    let heard = welcome(200, 4092);
    assert_eq!(heard.len(), Welcome::MAX_METADATA_BYTES / 4096);
    assert!(heard.contains_key(&Text::from("0015")) && !heard.contains_key(&Text::from("0016")));
}

#[test]
fn features_are_few_and_plain_words() {
    let read = |json: &str| frame::decode::<Features>(json.as_bytes()).unwrap();
    let words = read(r#"["b-2","a","b-2","","B","a b","\u001b[31m","ä"]"#);
    assert_eq!(words.words().collect::<Vec<_>>(), ["a", "b-2"]);
    assert!(words.has("a") && !words.has("c"));
    let many: Vec<String> = (0..100_000).map(|number| format!("w{number}")).chain(["x".repeat(65)]).collect();
    let many = frame::encode(&many).unwrap();
    assert_eq!(frame::decode::<Features>(&many).unwrap().words().count(), Features::MAX);
    assert!(frame::decode::<Features>(b"{}").is_err());
    assert!(read(&format!("[\"{}\"]", "x".repeat(65))).is_empty());
}

#[test]
fn streams_are_few_and_their_labels_short() {
    let stream = |number: u32| {
        format!(
            r#"{{"stream":{number},"kind":"new","port":200,"label":"{}","age_us":1,"from_host":0,"to_host":0}}"#,
            "ä".repeat(99)
        )
    };
    let few = format!("[{}]", stream(7));
    let few: StreamList = frame::decode(few.as_bytes()).unwrap();
    let read: Vec<&StreamInfo> = few.iter().collect();
    assert_eq!((read.len(), read[0].stream, read[0].kind), (1, 7, StreamKind::Unknown));
    assert_eq!(read[0].label.as_ref().unwrap().as_str(), "ä".repeat(Label::MAX_BYTES / 2));
    let many = format!("[{},1e9{}]", vec![stream(1); StreamList::MAX].join(","), ",{}".repeat(300_000));
    assert_eq!(frame::decode::<StreamList>(many.as_bytes()).unwrap().iter().count(), StreamList::MAX);
    let all: StreamList = std::iter::repeat_n(read[0].clone(), 1000).collect();
    assert_eq!(all.iter().count(), StreamList::MAX);
    // The longest list that there can be fits into a frame.
    let worst = StreamInfo {
        stream: u64::MAX,
        kind: StreamKind::Terminal,
        port: u32::MAX,
        label: Some(Label::from("\"".repeat(99).as_str())),
        age_us: u64::MAX,
        from_host: u64::MAX,
        to_host: u64::MAX,
    };
    let worst = Answer::Streams(std::iter::repeat_n(worst, 1000).collect());
    frame::encode(&Message::Answer { id: u64::MAX, answer: worst }).unwrap();
}

#[test]
fn a_secret_is_not_printed() {
    let token = Token::from("5ecret");
    assert!(!format!("{token:?}").contains("5ecret"));
    assert!(token == Token::from("5ecret") && token != Token::from("5ecre") && token != Token::from(""));
}
