//! A test that runs a part of itself in another process.

use std::{
    env,
    process::{Child, Command, Stdio},
};

/// Tells the other process which part it plays.
const PART: &str = "NEXUS_STORE_TEST_PART";

/// The part of this process, if it is the other one.
pub(crate) fn part() -> Option<String> {
    env::var(PART).ok()
}

/// This very test, to be run as another process, which finds `part` in [`part()`]. `wrapper` is a command in front.
pub(crate) fn this_test(wrapper: &[&str], test: &str, part: &str) -> Command {
    let program = env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, part);
    command
}

/// A process that is killed and collected when nobody needs it any more.
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
