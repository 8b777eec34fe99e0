//! What is different on a terminal.

use std::{
    fs::File,
    io::{self, Read, Write},
    process::{Child, Command},
};

use nix::pty::openpty;

use crate::{bus::PrivateBus, nexusctl};

/// The program on a terminal, and its other side.
struct OnTerminal {
    child: Child,
    terminal: File,
    written: Vec<u8>,
}

fn on_terminal(mut command: Command) -> OnTerminal {
    let pty = openpty(None, None).unwrap();
    let side = || pty.slave.try_clone().unwrap();
    let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    OnTerminal { child, terminal: File::from(pty.master), written: Vec::new() }
}

impl OnTerminal {
    /// Reads on; false at the end.
    fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.terminal.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => {
                    self.written.extend_from_slice(&chunk[..count]);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // How Linux says that the other side is closed.
                Err(_) => return false,
            }
        }
    }

    /// Types once it has written `prompt`: the terminal shows what is typed earlier in the midst of it.
    fn answer(&mut self, prompt: &str, answer: &str) {
        while !String::from_utf8_lossy(&self.written).contains(prompt) {
            assert!(self.read(), "no `{prompt}` in {}", String::from_utf8_lossy(&self.written));
        }
        self.terminal.write_all(answer.as_bytes()).unwrap();
    }

    /// Everything that it wrote, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        while self.read() {}
        (String::from_utf8(self.written).unwrap().replace("\r\n", "\n"), self.child.wait().unwrap().code())
    }
}

#[test]
fn asks_before_it_destroys() {
    let bus = PrivateBus::start();
    for (answer, code, said) in
        [("n\n", 2, "nothing was done"), ("\n", 2, "nothing was done"), ("y\n", 1, "not running")]
    {
        let mut command = nexusctl(&["vm", "delete", "web"]);
        command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        let mut asking = on_terminal(command);
        asking.answer("Really delete VM web? [y/N]", answer);
        let (written, status) = asking.end();
        assert!(written.contains(said), "{answer:?}: {written}");
        assert_eq!(status, Some(code), "{answer:?}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (written, _) = on_terminal(nexusctl(&["status"])).end();
    assert!(written.starts_with("\x1b["), "{written:?}");
    let mut plain = nexusctl(&["status"]);
    plain.env("NO_COLOR", "1");
    let (written, _) = on_terminal(plain).end();
    assert!(written.starts_with("Error: cannot reach Nexus") && !written.contains('\x1b'), "{written:?}");
}
