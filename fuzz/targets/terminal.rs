//! What the proxy and the agent say when a terminal's stream is opened; and what nexusctl, which shows a terminal, reads in
//! what comes out of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nexus_fuzz::{Guest, frames, welcome};
use nexus_protocol::{Answer, Message, OpenTerminal, OpenedTerminal, TERMINAL_PORTS, Token};

// nexusctl is a program: nothing of it can be linked.
#[path = "../../nexusctl/src/terminal/alternate.rs"]
mod alternate;

thread_local! {
    static GUEST: Guest = Guest::new();
}

fuzz_target!(|stream: &[u8]| {
    let opened = OpenedTerminal {
        exec: 7,
        port: *TERMINAL_PORTS.start(),
        token: Token::from("5ecret"),
        created: true,
        stream: Some(3),
        next_terminal: Some(*TERMINAL_PORTS.end()),
    };
    let control = frames(&[
        Message::Answer { id: 0, answer: Answer::Welcome(Box::new(welcome())) },
        Message::Answer { id: 1, answer: Answer::Terminal(opened) },
    ]);
    GUEST.with(|guest| {
        guest.play(&control, stream, async |connected| {
            let (agent, ..) = connected.expect("an honest handshake");
            let _ = agent.open_terminal(OpenTerminal::default()).await;
        });
    });

    // However it is cut.
    let whole = alternate::Alternate::default().follow(stream);
    let mut follower = alternate::Alternate::default();
    let mut shown = false;
    for piece in stream.chunks(1 + stream.len() % 7) {
        shown = follower.follow(piece);
    }
    assert_eq!(shown, whole);
});
