//! What the proxy and the agent say when the streams of a command and of a session of MCP are opened.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nexus_fuzz::{Guest, frames, welcome};
use nexus_protocol::{Answer, Command, Message, Opened, Started, TOOLS_PORT, Token};

thread_local! {
    static GUEST: Guest = Guest::new();
}

fuzz_target!(|stream: &[u8]| {
    let token = Token::from("5ecret");
    let control = frames(&[
        Message::Answer { id: 0, answer: Answer::Welcome(Box::new(welcome())) },
        Message::Answer {
            id: 1,
            answer: Answer::Opened(Opened { port: TOOLS_PORT, token: token.clone(), stream: Some(3) }),
        },
        Message::Answer { id: 2, answer: Answer::Started(Started { exec: 7, token, stream: Some(1) }) },
    ]);
    GUEST.with(|guest| {
        guest.play(&control, stream, async |connected| {
            let (agent, ..) = connected.expect("an honest handshake");
            let _ = agent.open_tools(Default::default(), None).await;
            let command = Command { argv: vec!["true".to_owned()], ..Command::default() };
            let _ = agent.exec(&command, None).await;
        });
    });
});
