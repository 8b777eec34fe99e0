//! The streams of an agent that is a process: what it counts, and how they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod support;

use std::{collections::BTreeMap, fs::File, io::Read, os::fd::OwnedFd, time::Duration};

use nexus_host::agent::{AgentClient, OpenedStream};
use nexus_protocol::{
    BULK_PORT, CopyIn, CopyOut, FailureKind, Features, Label, OpenTerminal, StreamInfo, StreamKind, TERMINAL_PORTS,
    TOOLS_PORT,
};
use support::{Agent, bounded, kind, sh};

async fn only(client: &AgentClient) -> StreamInfo {
    let mut streams = bounded(client.list_streams()).await.unwrap();
    assert_eq!(streams.len(), 1, "{streams:?}");
    streams.remove(0)
}

/// The only stream, once that many bytes to the host are counted: they are when the write has returned, which may be after
/// the host has read them.
async fn carried(client: &AgentClient, bytes: u64) -> StreamInfo {
    bounded(async {
        loop {
            let info = only(client).await;
            if info.to_host >= bytes {
                break info;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

async fn rest(stream: OwnedFd) -> Vec<u8> {
    let read = move || {
        let mut bytes = Vec::new();
        File::from(stream).read_to_end(&mut bytes).map(|_| bytes)
    };
    bounded(tokio::task::spawn_blocking(read)).await.unwrap().unwrap()
}

fn owner() -> Option<Label> {
    Some(Label::from(":1.7"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_is_listed_and_can_be_closed() {
    let agent = Agent::start();
    let (client, welcome, _events) = agent.connect().await;
    assert!(welcome.features.has(Features::STREAMS));
    assert!(bounded(client.list_streams()).await.unwrap().is_empty());

    let tools = bounded(client.open_tools(BTreeMap::new(), owner())).await.unwrap();
    let copy = CopyIn { path: "/copied".to_owned(), name: None, replace: false };
    let copy = bounded(client.copy_in(copy, owner())).await.unwrap();
    let open = OpenTerminal { command: sh("sleep 1000"), label: owner(), ..OpenTerminal::default() };
    let terminal = bounded(client.open_terminal(open)).await.unwrap();
    assert!(TERMINAL_PORTS.contains(&terminal.port));
    let expected = [
        (StreamKind::Tools, TOOLS_PORT, tools.number.unwrap()),
        (StreamKind::Copy, BULK_PORT, copy.number.unwrap()),
        (StreamKind::Terminal, terminal.port, terminal.number.unwrap()),
    ];
    let listed = bounded(client.list_streams()).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|info| (info.kind, info.port, info.stream)).collect();
    assert_eq!(seen, expected);
    assert!(listed.iter().all(|info| info.label == owner()));

    for ((_, _, number), stream) in expected.into_iter().zip([tools.stream, copy.stream, terminal.stream]) {
        bounded(client.close_stream(number)).await.unwrap();
        bounded(client.wait_stream(number)).await.unwrap();
        rest(stream).await;
        assert_eq!(kind(bounded(client.close_stream(number)).await), FailureKind::NotFound);
    }
    assert!(bounded(client.list_streams()).await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(agent.folder.path()).unwrap().count(), 1, "nothing is left of the copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_counted_and_the_host_s_end_is_noticed() {
    let agent = Agent::start();
    let client = agent.client().await;
    std::fs::write(agent.folder.path().join("large"), vec![b'x'; 3 << 20]).unwrap();
    let copy = CopyOut { path: "/large".to_owned() };
    let OpenedStream { number, stream } = bounded(client.copy_out(copy, None)).await.unwrap();
    let number = number.unwrap();
    // It waits for somebody to read.
    let before = only(&client).await;
    assert_eq!((before.stream, before.label.is_none()), (number, true));
    assert!(before.to_host < 3 << 20, "{before:?}");
    let mut stream = File::from(stream);
    let mut half = vec![0; 2 << 20];
    let reading = tokio::task::spawn_blocking(move || stream.read_exact(&mut half).map(|()| stream));
    let stream = bounded(reading).await.unwrap().unwrap();
    let after = carried(&client, 2 << 20).await;
    assert_eq!(after.from_host, 0);
    assert!(after.age_us >= before.age_us);
    let waiter = client.clone();
    let mut waiting = tokio::spawn(async move { waiter.wait_stream(number).await });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "it has not ended yet: {early:?}");
    drop(stream);
    bounded(waiting).await.unwrap().unwrap();
    // What was never there has ended, too.
    bounded(client.wait_stream(u64::MAX)).await.unwrap();

    // A wait can be called off, and a stream outlives the connection on which it was asked for.
    let open = OpenTerminal { command: sh("cat"), ..OpenTerminal::default() };
    let terminal = bounded(client.open_terminal(open)).await.unwrap();
    let number = terminal.number.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), client.wait_stream(number)).await.is_err());
    drop(client);
    let client = agent.client().await;
    assert_eq!(only(&client).await.stream, number);
    drop(terminal);
    bounded(client.wait_stream(number)).await.unwrap();
}
