//! A guest that does what it likes, and what becomes of the host's client then.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nexus_model::ExitStatus;
use nexus_protocol::{
    Answer, Blob, Call, Command, Ended, Event, ExecInfo, ExecState, Failure, FailureKind, Features, MAX_EXECS,
    MAX_RUN_OUTPUT_BYTES, Message, OpenTerminal, OpenedTerminal, REVISION, Ran, Request, Role, ShutdownMode,
    StreamList, Text, Token, Welcome,
    frame::{self, FrameError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::UnixListener,
    time::timeout,
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{AgentClient, AgentError, AgentEvents, Disconnect, connection::MAX_PENDING};
use crate::vsock::Endpoint;

type Guest = Framed<DuplexStream, LengthDelimitedCodec>;

const PATIENCE: Duration = Duration::from_secs(600);

fn welcome() -> Welcome {
    Welcome {
        revision: REVISION,
        agent_version: Text::from("0.1.0"),
        run_id: Text::default(),
        role: Role::Init,
        boot_id: Text::default(),
        hostname: Text::default(),
        os_name: Text::default(),
        os_version: Text::default(),
        addresses: Vec::new(),
        metadata: Default::default(),
        metadata_problem: None,
        uptime_us: 0,
        features: Features::default(),
        next_terminal: None,
    }
}

async fn send(guest: &mut Guest, message: &Message) {
    guest.send(frame::encode(message).unwrap()).await.unwrap();
}

async fn request(guest: &mut Guest) -> Request {
    frame::decode(&guest.next().await.unwrap().unwrap()).unwrap()
}

/// A client and its guest, which has shaken hands so far.
async fn connected() -> (AgentClient, AgentEvents, Guest) {
    let (host, guest) = duplex(64 * 1024);
    let mut guest = Framed::new(guest, frame::codec());
    let client = tokio::spawn(AgentClient::over(host, None));
    let hello = request(&mut guest).await;
    assert!(matches!(hello, Request { id: 0, call: Call::Hello(_) }));
    send(&mut guest, &Message::Answer { id: 0, answer: Answer::Welcome(Box::new(welcome())) }).await;
    let (client, _, events) = client.await.unwrap().unwrap();
    (client, events, guest)
}

/// Waits for the connection's end and returns its reason.
async fn end(events: &mut AgentEvents) -> Arc<Disconnect> {
    while timeout(PATIENCE, events.recv()).await.expect("the connection ends").is_some() {}
    events.disconnect().unwrap()
}

#[tokio::test]
async fn a_flood_of_events_ends_the_connection() {
    let (client, mut events, mut guest) = connected().await;
    let ending = Message::Event(Event::Ending { mode: ShutdownMode::Reboot });
    while guest.send(frame::encode(&ending).unwrap()).await.is_ok() && events.disconnect().is_none() {}
    assert!(matches!(*end(&mut events).await, Disconnect::Flood));
    assert!(matches!(client.ping().await, Err(AgentError::Gone(reason)) if matches!(*reason, Disconnect::Flood)));
}

#[tokio::test(start_paused = true)]
async fn events_may_go_on_for_ever_at_a_moderate_rate() {
    let (client, mut events, mut guest) = connected().await;
    let news = Bytes::from_static(br#"{"event":{"tide":{"high":true}}}"#);
    // As many as the burst allows, and two more in each sixteenth of a second.
    for round in 0..1000 {
        for _ in 0..if round == 0 { 64 } else { 2 } {
            guest.send(news.clone()).await.unwrap();
            assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), Some(Event::Unknown));
        }
        tokio::time::sleep(Duration::from_micros(62_500)).await;
    }
    let pinging = tokio::spawn(async move { client.ping().await });
    let Request { id, .. } = request(&mut guest).await;
    send(&mut guest, &Message::Answer { id, answer: Answer::Pong }).await;
    pinging.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_are_kept_up_to_a_bound() {
    let (_client, mut events, mut guest) = connected().await;
    let news = Bytes::from_static(br#"{"event":"tide"}"#);
    let mut sent = 0;
    while events.disconnect().is_none() {
        assert!(sent < 10_000);
        sent += 1;
        let _ = guest.send(news.clone()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut kept = 0;
    while timeout(PATIENCE, events.recv()).await.expect("the connection has ended").is_some() {
        kept += 1;
    }
    assert_eq!(kept, 512);
    assert!(matches!(*events.disconnect().unwrap(), Disconnect::Flood));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_drips_ends_the_connection_and_one_that_is_slow_does_not() {
    let (_client, mut events, guest) = connected().await;
    let mut guest = guest.into_inner();
    // Between frames there is all the time in the world.
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    let whole = br#"{"event":"tide"}"#;
    let length = u32::try_from(whole.len()).unwrap().to_be_bytes();
    let bytes: Vec<u8> = length.iter().chain(whole).copied().collect();
    for byte in &bytes {
        guest.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap(), Some(Event::Unknown));

    let begun = tokio::time::Instant::now();
    guest.write_all(&bytes[..1]).await.unwrap();
    for byte in bytes[1..].iter().cycle() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if guest.write_all(&[*byte]).await.is_err() || events.disconnect().is_some() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(matches!(*end(&mut events).await, Disconnect::Dripping));
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_a_connection_carries_is_counted() {
    let (client, mut events, mut guest) = connected().await;
    let (meter, begin) = (client.meter(), client.meter().read());
    assert_eq!((begin.frames_in, begin.frames_out), (1, 1));
    assert!(begin.bytes_in > 100 && begin.bytes_out > 20, "{begin:?}");
    let pinger = client.clone();
    let pinging = tokio::spawn(async move { pinger.ping().await });
    let Request { id, .. } = request(&mut guest).await;
    send(&mut guest, &Message::Answer { id, answer: Answer::Pong }).await;
    pinging.await.unwrap().unwrap();
    guest.into_inner().write_all(&[0, 0]).await.unwrap();
    end(&mut events).await;
    let end = meter.read();
    assert_eq!((end.frames_in, end.frames_out), (2, 2));
    let (question, answer) = (br#"{"id":1,"call":"ping"}"#.len(), br#"{"answer":{"id":1,"answer":"pong"}}"#.len());
    let (carried_in, carried_out) = (end.bytes_in - begin.bytes_in, end.bytes_out - begin.bytes_out);
    assert_eq!(carried_out, 4 + u64::try_from(question).unwrap());
    let answer = 4 + u64::try_from(answer).unwrap();
    assert!((answer..=answer + 2).contains(&carried_in), "{carried_in}");
}

#[tokio::test]
async fn who_waits_for_an_answer_does_not_keep_a_connection_that_is_hung_up() {
    let (client, mut events, mut guest) = connected().await;
    let waiter = client.clone();
    let waiting = tokio::spawn(async move { waiter.wait_exec(1).await });
    request(&mut guest).await;
    client.hang_up();
    let gone = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(matches!(gone, Err(AgentError::Gone(reason)) if matches!(*reason, Disconnect::Dropped)));
    assert!(matches!(*end(&mut events).await, Disconnect::Dropped));
    assert!(timeout(PATIENCE, guest.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let (_client, mut events, mut guest) = connected().await;
    send(&mut guest, &Message::Answer { id: 77, answer: Answer::Pong }).await;
    assert!(matches!(*end(&mut events).await, Disconnect::Unasked { id: 77 }));
}

#[tokio::test]
async fn a_second_answer_ends_the_connection() {
    let (client, mut events, mut guest) = connected().await;
    let pinging = tokio::spawn(async move { client.ping().await.map(|()| client) });
    let Request { id, .. } = request(&mut guest).await;
    for _ in 0..2 {
        send(&mut guest, &Message::Answer { id, answer: Answer::Pong }).await;
    }
    let _client = pinging.await.unwrap().unwrap();
    assert!(matches!(*end(&mut events).await, Disconnect::Unasked { .. }));
}

#[tokio::test]
async fn a_long_frame_and_noise_end_the_connection() {
    for bytes in [&[0xff_u8; 64][..], &[0, 0, 0, 4, b'n', b'o', b'p', b'e'][..], &[0, 0, 0, 0][..]] {
        let (_client, mut events, guest) = connected().await;
        guest.into_inner().write_all(bytes).await.unwrap();
        assert!(matches!(*end(&mut events).await, Disconnect::Frame(_)));
    }
}

#[tokio::test]
async fn a_frame_that_breaks_off_ends_the_connection() {
    let (_client, mut events, guest) = connected().await;
    let mut guest = guest.into_inner();
    guest.write_all(&[0, 0, 0, 9, b'{']).await.unwrap();
    drop(guest);
    assert!(matches!(*end(&mut events).await, Disconnect::Io(_)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_answers_costs_a_deadline() {
    let (client, mut events, mut guest) = connected().await;
    let silent = tokio::spawn(async move { while guest.next().await.is_some() {} });
    assert!(matches!(client.ping().await, Err(AgentError::Timeout { .. })));
    // It is given up when it owes too many answers.
    let mut pings = 0;
    while let Err(AgentError::Timeout { .. }) = client.ping().await {
        pings += 1;
        assert!(pings <= 2 * MAX_PENDING);
    }
    assert!(matches!(*end(&mut events).await, Disconnect::NotAnswering));
    silent.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_loses_its_connection() {
    let (client, mut events, _guest) = connected().await;
    let command = Command::new(["x".repeat(100_000)]);
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let (client, command) = (client.clone(), command.clone());
            tokio::spawn(async move { client.run(&command).await })
        })
        .collect();
    assert!(matches!(*end(&mut events).await, Disconnect::NotReading));
    let mut unheard = 0;
    for run in runs {
        match run.await.unwrap() {
            Err(AgentError::Gone(_)) => unheard += 1,
            Err(AgentError::Lost(_)) => {}
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(unheard, 2, "one was being written");
}

#[tokio::test]
async fn what_may_have_been_done_is_not_said_to_be_unheard() {
    let (client, _events, mut guest) = connected().await;
    let starting = tokio::spawn({
        let client = client.clone();
        async move { client.detach(&Command::new(["true"])).await }
    });
    let listing = tokio::spawn({
        let client = client.clone();
        async move { client.list_execs().await }
    });
    for _ in ["detach", "list-execs"] {
        request(&mut guest).await;
    }
    drop(guest);
    assert!(matches!(starting.await.unwrap(), Err(AgentError::Lost(_))));
    assert!(matches!(listing.await.unwrap(), Err(AgentError::Gone(_))));
    assert!(matches!(client.detach(&Command::new(["true"])).await, Err(AgentError::Gone(_))));
}

#[tokio::test]
async fn a_length_that_is_too_large_is_told_as_it_is() {
    let (_client, mut events, mut guest) = connected().await;
    guest.get_mut().write_all(&[0x40, 0, 0, 0]).await.unwrap();
    let end = end(&mut events).await;
    assert!(matches!(*end, Disconnect::Frame(FrameError::TooLarge { length: 0x4000_0000, .. })), "{end:?}");
}

#[tokio::test]
async fn too_many_calls_are_refused_and_not_queued() {
    let (client, _events, mut guest) = connected().await;
    tokio::spawn(async move { while guest.next().await.is_some() {} });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..MAX_PENDING + 88 {
        let client = client.clone();
        calls.spawn(async move { client.wait_exec(1).await });
    }
    for _ in 0..88 {
        let first = timeout(PATIENCE, calls.join_next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(first, Err(AgentError::Busy { .. })));
    }
}

/// However many others wait.
#[tokio::test]
async fn a_ping_is_never_one_too_many() {
    let (client, _events, mut guest) = connected().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..MAX_PENDING {
        let client = client.clone();
        calls.spawn(async move { client.wait_exec(1).await });
    }
    for _ in 0..MAX_PENDING {
        assert_eq!(request(&mut guest).await.call, Call::WaitExec { exec: 1 });
    }
    let pinging = client.clone();
    let pinging = tokio::spawn(async move { pinging.ping().await });
    let Request { id, .. } = request(&mut guest).await;
    send(&mut guest, &Message::Answer { id, answer: Answer::Pong }).await;
    pinging.await.unwrap().unwrap();
    // All who wait may leave at once.
    calls.shutdown().await;
    for _ in 0..MAX_PENDING {
        assert!(matches!(request(&mut guest).await.call, Call::Cancel { .. }));
    }
    let pinging = tokio::spawn(async move { client.ping().await });
    let Request { id, .. } = request(&mut guest).await;
    send(&mut guest, &Message::Answer { id, answer: Answer::Pong }).await;
    pinging.await.unwrap().unwrap();
}

/// Regression: the connection, with the calls of all others, was lost, and the guest was to blame.
#[tokio::test]
async fn a_call_that_does_not_fit_is_refused_and_nobody_else_is_harmed() {
    let (client, _events, mut guest) = connected().await;
    let waiter = client.clone();
    let waiting = tokio::spawn(async move { waiter.wait_exec(1).await });
    let Request { id, .. } = request(&mut guest).await;
    let error = client.read_file(&"/".repeat(2 << 20), 0).await.unwrap_err();
    assert!(matches!(error, AgentError::TooLarge(_)) && !error.is_breach(), "{error:?}");
    let ended = Answer::Ended(Ended { status: ExitStatus::Code(0), timed_out: false });
    send(&mut guest, &Message::Answer { id, answer: ended }).await;
    assert_eq!(waiting.await.unwrap().unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn a_caller_that_leaves_calls_its_request_off_and_a_late_answer_harms_nobody() {
    let (client, mut events, mut guest) = connected().await;
    let runner = client.clone();
    let run = tokio::spawn(async move { runner.run(&Command::new(["sleep"])).await });
    let Request { id: run_id, .. } = request(&mut guest).await;
    run.abort();
    let cancel = request(&mut guest).await;
    assert_eq!(cancel.call, Call::Cancel { request: run_id });
    let ran = Ran {
        status: ExitStatus::Code(0),
        timed_out: false,
        stdout: Blob::default(),
        stderr: Blob::default(),
        truncated: false,
    };
    send(&mut guest, &Message::Answer { id: run_id, answer: Answer::Ran(ran) }).await;
    send(&mut guest, &Message::Answer { id: cancel.id, answer: Answer::Done }).await;

    let pinging = tokio::spawn(async move { client.ping().await });
    let Request { id, .. } = request(&mut guest).await;
    send(&mut guest, &Message::Answer { id, answer: Answer::Pong }).await;
    pinging.await.unwrap().unwrap();
    assert!(matches!(*end(&mut events).await, Disconnect::Dropped));
}

#[tokio::test]
async fn nonsense_is_told_from_an_answer() {
    let (client, _events, mut guest) = connected().await;
    let asking = tokio::spawn(async move {
        let ping = client.ping().await;
        (ping, client.wait_exec(1).await, client.wait_exec(1).await, client.wait_exec(1).await)
    });
    let statuses = [ExitStatus::Signal(i32::MAX), ExitStatus::Code(-1), ExitStatus::Code(3)];
    let ended = statuses.map(|status| Answer::Ended(Ended { status, timed_out: false }));
    for answer in [Answer::Done].into_iter().chain(ended) {
        let Request { id, .. } = request(&mut guest).await;
        send(&mut guest, &Message::Answer { id, answer }).await;
    }
    let (ping, first, second, third) = asking.await.unwrap();
    assert!(matches!(ping, Err(AgentError::Nonsense)));
    // What no kernel could have said is nothing that anybody should compute with.
    assert_eq!(first.unwrap(), ExitStatus::Unknown);
    assert_eq!(second.unwrap(), ExitStatus::Unknown);
    assert_eq!(third.unwrap(), ExitStatus::Code(3));
}

#[tokio::test]
async fn a_terminal_is_looked_for_on_no_other_port_than_its_own() {
    let (client, _events, mut guest) = connected().await;
    for port in [0, 100, 101, 299, 400, u32::MAX] {
        let client = client.clone();
        let opening = tokio::spawn(async move { client.open_terminal(OpenTerminal::default()).await });
        let Request { id, .. } = request(&mut guest).await;
        let terminal = OpenedTerminal {
            exec: 7,
            port,
            token: Token::from("5ecret"),
            created: false,
            stream: None,
            next_terminal: None,
        };
        send(&mut guest, &Message::Answer { id, answer: Answer::Terminal(terminal) }).await;
        assert!(matches!(opening.await.unwrap(), Err(AgentError::Nonsense)), "{port}");
    }
}

#[tokio::test]
async fn a_list_of_streams_is_bounded_and_none_is_in_it_twice() {
    let (host, guest) = duplex(4 << 20);
    let mut guest = Framed::new(guest, frame::codec());
    send(&mut guest, &Message::Answer { id: 0, answer: Answer::Welcome(Box::new(welcome())) }).await;
    let (client, _, mut events) = AgentClient::over(host, None).await.unwrap();
    request(&mut guest).await;
    let entry = |stream: u64| {
        format!(r#"{{"stream":{stream},"kind":"tools","port":200,"age_us":0,"from_host":0,"to_host":{}}}"#, u64::MAX)
    };
    for (ids, expected) in [(vec![7; 1000], 1), ((0..9000).collect(), StreamList::MAX)] {
        let asked = client.clone();
        let listing = tokio::spawn(async move { asked.list_streams().await });
        let Request { id, call: Call::ListStreams } = request(&mut guest).await else { panic!("another call") };
        let list = ids.into_iter().map(entry).collect::<Vec<_>>().join(",");
        guest
            .send(Bytes::from(format!(r#"{{"answer":{{"id":{id},"answer":{{"streams":[{list}]}}}}}}"#)))
            .await
            .unwrap();
        assert_eq!(listing.await.unwrap().unwrap().len(), expected);
    }
    // A million of them are no frame.
    let asked = client.clone();
    let listing = tokio::spawn(async move { asked.list_streams().await });
    request(&mut guest).await;
    let length = 1_000_000 * u32::try_from(entry(0).len()).unwrap();
    guest.get_mut().write_all(&length.to_be_bytes()).await.unwrap();
    assert!(matches!(listing.await.unwrap(), Err(AgentError::Gone(_))));
    assert!(matches!(*end(&mut events).await, Disconnect::Frame(_)));
}

#[tokio::test]
async fn a_welcome_is_bounded_and_of_this_revision() {
    for revision in [REVISION, REVISION + 1] {
        let (host, guest) = duplex(1 << 20);
        let mut guest = Framed::new(guest, frame::codec());
        let mut large = Welcome { revision, addresses: vec![[10, 0, 0, 1].into(); 5000], ..welcome() };
        large.features = ["terminals"].into_iter().collect();
        large.metadata = (0..5000).map(|n| (Text::from(format!("{n:04}")), Text::from("\u{1b}[31m"))).collect();
        send(&mut guest, &Message::Answer { id: 0, answer: Answer::Welcome(Box::new(large)) }).await;
        match AgentClient::over(host, None).await {
            Ok((_, welcome, _)) => {
                assert_eq!(revision, REVISION);
                assert_eq!(welcome.addresses.len(), Welcome::MAX_ADDRESSES);
                assert_eq!(welcome.metadata.len(), Welcome::MAX_METADATA);
                assert!(welcome.features.has("terminals"));
                assert!(welcome.metadata.values().all(|value| !value.contains('\u{1b}')));
            }
            Err(AgentError::Revision { theirs }) => assert_eq!(theirs, revision),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn what_an_older_agent_lacks_is_said_by_its_version() {
    let too_old = |error: AgentError| {
        assert!(matches!(error, AgentError::TooOld { .. }), "{error:?}");
        assert!(error.to_string().contains("0.1.0") && error.to_string().contains("build the image again"), "{error}");
    };
    let (client, _events, mut guest) = connected().await;
    // It says nothing of a clock, so it is not even asked.
    too_old(client.freeze(PATIENCE).await.unwrap_err());
    too_old(client.refresh(PATIENCE).await.unwrap_err());
    let listing = tokio::spawn(async move { client.list_execs().await });
    let Request { id, call: Call::ListExecs } = request(&mut guest).await else { panic!("another call was made") };
    let failure = Failure::new(FailureKind::Unsupported, "the agent does not know this call");
    send(&mut guest, &Message::Failure { id, failure }).await;
    too_old(listing.await.unwrap().unwrap_err());
}

#[tokio::test]
async fn a_handshake_that_hangs_costs_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vsock.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"OK 1\n").await.unwrap();
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    });
    let endpoint = Endpoint::Hybrid { socket };
    let connected = AgentClient::connect(&endpoint, None, Duration::from_millis(200)).await;
    assert!(matches!(connected, Err(AgentError::Timeout { .. })));
}

#[tokio::test]
async fn what_a_guest_tells_of_commands_is_bounded() {
    let (client, _events, mut guest) = connected().await;
    let asking = tokio::spawn(async move {
        let outcome = client.run(&Command::new(["true"])).await;
        (outcome.unwrap(), client.list_execs().await.unwrap())
    });
    let (out, err) = (Blob(vec![b'o'; MAX_RUN_OUTPUT_BYTES - 1]), Blob(b"err".to_vec()));
    let ran = Ran { status: ExitStatus::Code(0), timed_out: false, stdout: out, stderr: err, truncated: false };
    let exec = ExecInfo { exec: 1, state: ExecState::Running, argv: Vec::new(), terminal: None };
    for answer in [Answer::Ran(ran), Answer::Execs(vec![exec; 5000])] {
        let Request { id, .. } = request(&mut guest).await;
        send(&mut guest, &Message::Answer { id, answer }).await;
    }
    let (outcome, execs) = asking.await.unwrap();
    assert_eq!((outcome.stdout.len(), outcome.stderr.as_slice()), (MAX_RUN_OUTPUT_BYTES - 1, &b"e"[..]));
    assert!(outcome.truncated);
    assert_eq!(execs.len(), MAX_EXECS);
}

#[tokio::test]
async fn a_connection_may_end_at_each_byte() {
    let frame = |answer| {
        let payload = frame::encode(&Message::Answer { id: 0, answer }).unwrap();
        [&u32::try_from(payload.len()).unwrap().to_be_bytes(), &*payload].concat()
    };
    let beginning = frame(Answer::Welcome(Box::new(welcome())));
    let end = br#"{"answer":{"id":1,"answer":"pong"}}"#;
    let whole = [&*beginning, &u32::try_from(end.len()).unwrap().to_be_bytes(), end].concat();
    for kept in 0..=whole.len() {
        let (host, mut guest) = duplex(64 * 1024);
        let (first, second) = whole.split_at(beginning.len().min(kept));
        guest.write_all(first).await.unwrap();
        if kept < beginning.len() {
            drop(guest);
            assert!(matches!(AgentClient::over(host, None).await, Err(AgentError::Gone(_))), "{kept}");
            continue;
        }
        let (client, ..) = AgentClient::over(host, None).await.unwrap();
        let pinging = tokio::spawn(async move { client.ping().await });
        let mut guest = Framed::new(guest, frame::codec());
        for _ in ["hello", "ping"] {
            request(&mut guest).await;
        }
        guest.get_mut().write_all(&second[..kept - beginning.len()]).await.unwrap();
        drop(guest);
        match pinging.await.unwrap() {
            Ok(()) => assert_eq!(kept, whole.len()),
            Err(AgentError::Gone(reason)) => assert!(!reason.is_breach() && kept < whole.len(), "{kept}: {reason:?}"),
            Err(error) => panic!("{kept}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn what_could_not_be_understood_is_not_quoted_as_it_is() {
    let (_client, mut events, mut guest) = connected().await;
    let word = "\\u001b]0;owned\\u0007".repeat(20_000);
    guest.send(Bytes::from(format!(r#"{{"{word}":1}}"#))).await.unwrap();
    let disconnect = end(&mut events).await;
    let Disconnect::Frame(error) = &*disconnect else { panic!("{disconnect:?}") };
    let said = std::error::Error::source(error).unwrap().to_string();
    assert!(said.contains("owned") && said.len() <= Text::MAX_BYTES, "{} bytes", said.len());
    assert!(!said.contains(char::is_control) && disconnect.is_breach());
}
