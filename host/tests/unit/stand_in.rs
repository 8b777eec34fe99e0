//! Parts that this test's own program plays when a keeper starts it.

use std::{env, io::Read as _, os::unix::net::UnixListener};

use nexus_host::unit::{Program, ProgramRole};

use crate::{escape, scene};

const PART: &str = "NEXUS_TEST_PART";
const ARGUMENT: &str = "NEXUS_TEST_ARGUMENT";

/// A program that plays a part.
pub(crate) fn program(role: ProgramRole, part: &str, argument: &str) -> Program {
    let path = scene::own_program();
    let argv = [path.to_str().unwrap(), "stand_in::play", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    Program {
        env: vec![(PART.to_owned(), part.to_owned()), (ARGUMENT.to_owned(), argument.to_owned())],
        ..scene::program(role, &argv)
    }
}

/// Listens on a socket until somebody has connected and said something.
pub(crate) const LISTEN: &str = "listen";
/// Tries to get out, see [`escape`].
pub(crate) const ESCAPE: &str = "escape";

#[test]
#[ignore = "played by a program that a keeper started"]
fn play() {
    let argument = env::var(ARGUMENT).expect("only a keeper starts this");
    match env::var(PART).unwrap().as_str() {
        LISTEN => {
            let (mut stream, _) = UnixListener::bind(argument).unwrap().accept().unwrap();
            let _ = stream.read(&mut [0]);
        }
        ESCAPE => escape::play(argument.as_ref()),
        other => panic!("no part {other}"),
    }
}
