//! Parts that this test's own program plays in a process of its own.

use std::{env, io::Read as _, os::unix::net::UnixListener, process::Command};

use nexus_host::unit::{Program, ProgramRole};

use crate::{
    escape, life,
    scene::{self, Scene},
    start,
};

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

/// Plays a part outside, as a child of the test.
pub(crate) fn run(part: &str, argument: &str) {
    assert!(command(part, argument).status().unwrap().success());
}

/// What [`run`] runs.
pub(crate) fn command(part: &str, argument: &str) -> Command {
    let program = program(ProgramRole::Vmm, part, argument);
    let mut command = Command::new(&program.argv[0]);
    command.args(&program.argv[1..]).envs(program.env);
    command
}

/// Listens on a socket until somebody has connected and said something.
pub(crate) const LISTEN: &str = "listen";
/// Tries to get out, see [`escape`].
pub(crate) const ESCAPE: &str = "escape";
/// Runs a unit a hundred times, [`WITH_THE_SHIM_ALONE`] or [`WITH_SYSTEMD`], and counts what is left.
pub(crate) const RUN_A_HUNDRED: &str = "run-a-hundred";
pub(crate) const WITH_THE_SHIM_ALONE: &str = "shim";
pub(crate) const WITH_SYSTEMD: &str = "systemd";
/// Starts a unit on a machine that allows no namespaces.
pub(crate) const WITHOUT_NAMESPACES: &str = "without-namespaces";

#[test]
#[ignore = "a part in other tests, no test"]
fn play() {
    let argument = env::var(ARGUMENT).expect("only other tests start this");
    match env::var(PART).unwrap().as_str() {
        LISTEN => {
            let (mut stream, _) = UnixListener::bind(argument).unwrap().accept().unwrap();
            let _ = stream.read(&mut [0]);
        }
        ESCAPE => escape::play(argument.as_ref()),
        WITHOUT_NAMESPACES => start::without_namespaces(),
        RUN_A_HUNDRED => run_a_hundred(&argument),
        other => panic!("no part {other}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run_a_hundred(with: &str) {
    let scene = if with == WITH_SYSTEMD { Scene::systemd().await } else { Some(Scene::shim().await) };
    if let Some(scene) = scene {
        life::run_a_hundred(scene).await;
    }
}
