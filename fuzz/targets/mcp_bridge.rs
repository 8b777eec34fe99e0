//! What nexusctl reads of a guest's session of MCP, before it passes that on: lines, and what they answer.

#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use nexus_fuzz::assert_plain;
use nexus_protocol::mcp::{Line, Lines, Pending};

/// Less than an input may have.
const LIMIT: usize = 4096;

const ASKED: [&[u8]; 3] = [
    br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
    br#"{"jsonrpc":"2.0","id":"call-2","method":"tools/call","params":{"name":"run_command"}}"#,
    br#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#,
];

/// Gives so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

fuzz_target!(|said: &[u8]| {
    let mut pending = Pending::default();
    for line in ASKED {
        pending.sent(line);
    }
    let mut lines = Lines::new(Pieces(said, 1 + said.len() % 61), LIMIT);
    while let Line::Whole(line) = lines.next().expect("what is in memory can be read") {
        assert!(line.len() <= LIMIT);
        if !pending.received(&line) {
            break;
        }
        // No escape sequence begins in it: JSON writes one in other letters. Of what is beyond ASCII it does not.
        assert!(!line.contains(&0x1b) && str::from_utf8(&line).is_ok());
    }
    let none = pending.is_empty();
    let lost = pending.give_up("the guest is gone");
    assert_eq!(none, lost.is_empty());
    assert!(lost.len() <= ASKED.len());
    lost.iter().for_each(|answer| assert_plain(&answer.to_string()));
    // And as the client's own words, which are the guest's to answer.
    Pending::default().sent(said);
});
