//! Whatever a host sends, the agent goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test needs all of the support")]

mod support;

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use nexus_protocol::{
    Blob, CONTROL_PORT, Call, Command, FailureKind, MAX_FILE_BYTES, REVISION, Request, STREAM_PORT, TOOLS_PORT,
    WriteFile,
};
use support::{Agent, PATIENCE, bounded, kind};

/// A connection to one of the agent's ports.
fn dial(agent: &Agent, port: u32) -> UnixStream {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {}
    stream
}

fn frame(payload: &str) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(payload.as_bytes());
    frame
}

fn receive(stream: &mut UnixStream) -> String {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    String::from_utf8(payload).unwrap()
}

/// Sends `bytes`, ends its side and waits until the agent has ended its own.
fn provoke(mut stream: UnixStream, bytes: &[u8]) {
    // The agent may have had enough before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn hello() -> Vec<u8> {
    frame(&format!("{{\"id\":0,\"call\":{{\"hello\":{{\"revision\":{REVISION}}}}}}}"))
}

#[tokio::test]
async fn noise_harms_nobody() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut pieces: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0xff; 8],
        vec![0; 4096],
        vec![0, 0, 0, 9, b'{'],
        frame("nope"),
        frame("{\"id\":1}"),
        frame("{\"id\":1,\"call\":\"levitate\"}"),
        frame("{\"id\":18446744073709551616,\"call\":\"ping\"}"),
        frame(&"[".repeat(100_000)),
        frame("{\"exec\":1,\"token\":\"\",\"channel\":\"stdin\"}"),
        frame("{\"exec\":1,\"token\":\"\",\"channel\":\"stdgone\"}"),
    ];
    for number in 0..50_u8 {
        pieces.push((0..200_u8).map(|byte| byte.wrapping_mul(number).wrapping_add(number >> 2)).collect());
    }
    for piece in &pieces {
        for port in [CONTROL_PORT, STREAM_PORT] {
            provoke(dial(&agent, port), piece);
        }
        // The same after a handshake.
        provoke(dial(&agent, CONTROL_PORT), &[hello().as_slice(), piece].concat());
    }
    for line in [&b"CONNECT"[..], b"CONNECT x\n", b"CONNECT 99\n", b"GET / HTTP/1.1\r\n\r\n", &[b'C'; 4096], b"\n"] {
        provoke(UnixStream::connect(agent.socket()).unwrap(), line);
    }
    bounded(client.ping()).await.unwrap();
    bounded(client.run(&Command::new(["true"]))).await.unwrap();
}

#[tokio::test]
async fn no_more_is_written_at_a_time_than_is_said() {
    let agent = Agent::start();
    let _client = agent.client().await;
    let mut stream = dial(&agent, CONTROL_PORT);
    stream.write_all(&hello()).unwrap();
    assert!(receive(&mut stream).contains("welcome"));
    for (bytes, taken) in [(MAX_FILE_BYTES, true), (MAX_FILE_BYTES + 1, false)] {
        let write = WriteFile { path: "/note".to_owned(), data: Blob(vec![b'x'; bytes]), ..WriteFile::default() };
        let request = Request { id: 1, call: Call::WriteFile(write) };
        stream.write_all(&frame(&serde_json::to_string(&request).unwrap())).unwrap();
        let answer = receive(&mut stream);
        assert_eq!(answer.contains("\"done\""), taken, "{answer}");
        assert_eq!(answer.contains("\"kind\":\"invalid\""), !taken, "{answer}");
    }
}

#[tokio::test]
async fn nothing_is_done_before_a_hello_of_this_revision() {
    let agent = Agent::start();
    let _client = agent.client().await;
    for (first, failure) in [
        ("{\"id\":5,\"call\":\"ping\"}".to_owned(), "unauthorized"),
        ("{\"id\":5,\"call\":\"levitate\"}".to_owned(), "unauthorized"),
        (format!("{{\"id\":5,\"call\":{{\"hello\":{{\"revision\":{}}}}}}}", REVISION + 1), "unsupported"),
    ] {
        let mut stream = dial(&agent, CONTROL_PORT);
        stream.write_all(&frame(&first)).unwrap();
        let answer = receive(&mut stream);
        assert!(answer.contains(&format!("\"kind\":\"{failure}\"")), "{answer}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection ends");
    }
}

#[tokio::test]
async fn an_unknown_call_and_a_second_hello_are_answered_and_the_connection_goes_on() {
    let agent = Agent::start();
    let _client = agent.client().await;
    let mut stream = dial(&agent, CONTROL_PORT);
    stream.write_all(&hello()).unwrap();
    assert!(receive(&mut stream).contains("welcome"));
    stream.write_all(&frame("{\"id\":1,\"call\":{\"levitate\":{\"height\":3}}}")).unwrap();
    assert!(receive(&mut stream).contains("\"kind\":\"unsupported\""));
    stream.write_all(&hello()).unwrap();
    assert!(receive(&mut stream).contains("\"kind\":\"invalid\""));
    // As a mere process it would change the host's own clock.
    for call in ["\"freeze\"", "{\"refresh\":{\"clock_us\":0,\"entropy\":\"\"}}"] {
        stream.write_all(&frame(&format!("{{\"id\":1,\"call\":{call}}}"))).unwrap();
        assert!(receive(&mut stream).contains("\"kind\":\"unsupported\""), "{call}");
    }
    stream.write_all(&frame("{\"id\":2,\"call\":\"ping\"}")).unwrap();
    assert!(receive(&mut stream).contains("pong"));
}

#[tokio::test]
async fn a_stream_opens_once_and_only_with_its_secret() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut control = dial(&agent, CONTROL_PORT);
    control.write_all(&hello()).unwrap();
    receive(&mut control);
    control.write_all(&frame("{\"id\":1,\"call\":{\"exec\":{\"argv\":[\"echo\",\"hello\"]}}}")).unwrap();
    let started = receive(&mut control);
    let field = |name: &str| started.split_once(&format!("\"{name}\":")).unwrap().1.split([',', '}']).next().unwrap();
    let header = |token: &str| format!("{{\"exec\":{},\"token\":{token},\"channel\":\"stdout\"}}", field("exec"));

    let ask = |header: String| {
        let mut stream = dial(&agent, STREAM_PORT);
        stream.write_all(&frame(&header)).unwrap();
        (receive(&mut stream), stream)
    };
    assert!(ask(header("\"guess\"")).0.contains("unauthorized"));
    let (answer, mut stream) = ask(header(field("token")));
    assert_eq!(answer, "\"open\"");
    let mut output = String::new();
    stream.read_to_string(&mut output).unwrap();
    assert_eq!(output, "hello\n");
    assert!(ask(header(field("token"))).0.contains("invalid"));
    assert_eq!(kind(client.wait_exec(0).await), FailureKind::NotFound);
}

#[tokio::test]
async fn a_terminal_is_on_a_port_of_its_own_and_opens_with_its_secret() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut control = dial(&agent, CONTROL_PORT);
    control.write_all(&hello()).unwrap();
    receive(&mut control);
    let mut open = |id| {
        let command = "{\"argv\":[\"cat\"],\"attached\":true}";
        let call = format!("{{\"id\":{id},\"call\":{{\"open-terminal\":{{\"command\":{command}}}}}}}");
        control.write_all(&frame(&call)).unwrap();
        let opened = receive(&mut control);
        let field = |name: &str| {
            let rest = opened.split_once(&format!("\"{name}\":")).unwrap().1;
            rest.split([',', '}']).next().unwrap().to_owned()
        };
        (field("exec"), field("port").parse::<u32>().unwrap(), field("token"))
    };
    let (first, second) = (open(1), open(2));
    assert_eq!((first.1, second.1), (300, 301));
    let refused = |port: u32| {
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        stream.read(&mut [0]).unwrap() == 0
    };
    assert!(refused(303) && refused(299) && refused(400), "nobody listens there");
    assert!(!refused(302), "the next terminal will be there");
    let ask = |port: u32, header: String| {
        let mut stream = dial(&agent, port);
        stream.write_all(&frame(&header)).unwrap();
        (receive(&mut stream), stream)
    };
    let header = |exec: &str, token: &str| format!("{{\"terminal\":{exec},\"token\":{token}}}");
    assert!(ask(first.1, header(&first.0, "\"guess\"")).0.contains("unauthorized"));
    assert!(ask(second.1, header(&first.0, &first.2)).0.contains("unauthorized"), "it is another terminal's port");
    assert!(ask(first.1, header(&second.0, &first.2)).0.contains("unauthorized"), "it is another terminal's secret");
    let (answer, stream) = ask(first.1, header(&first.0, &first.2));
    assert_eq!(answer, "\"open\"");
    assert!(ask(first.1, header(&first.0, &first.2)).0.contains("unauthorized"), "it opens once");
    // With its viewer the terminal ends, and with the terminal its port.
    drop(stream);
    let exec = first.0.parse().unwrap();
    bounded(client.wait_exec(exec)).await.unwrap();
    support::until("the port is free", || refused(300)).await;
    assert_eq!((open(3).1, open(4).1), (302, 300));
}

#[tokio::test]
async fn connections_wait_for_their_use_and_not_too_many_do() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut control = dial(&agent, CONTROL_PORT);
    control.write_all(&hello()).unwrap();
    receive(&mut control);
    let mut first = dial(&agent, TOOLS_PORT);
    // Its place is the first that is taken.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let others: Vec<UnixStream> = (0..33).map(|_| dial(&agent, STREAM_PORT)).collect();
    for stream in &others {
        stream.set_nonblocking(true).unwrap();
    }
    let closed = || others.iter().filter(|stream| (&**stream).read(&mut [0]).is_ok()).count();
    // 32 wait longer than the ten seconds that each has.
    support::until("the others are closed", || closed() >= 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(closed(), 2);

    let open = "{\"id\":1,\"call\":{\"open-stream\":{\"purpose\":{\"tools\":{}}}}}";
    control.write_all(&frame(open)).unwrap();
    let opened = receive(&mut control);
    let token = opened.split("\"token\":").nth(1).unwrap().split([',', '}']).next().unwrap().to_owned();
    first.write_all(&frame(&format!("{{\"token\":{token}}}"))).unwrap();
    assert_eq!(receive(&mut first), "\"open\"");
    bounded(client.ping()).await.unwrap();
}
