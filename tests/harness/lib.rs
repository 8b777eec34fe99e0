//! What the end-to-end tests stand on: real programs, in folders of their own, that go when the test goes.

use std::{env, path::PathBuf};

mod breakable;
mod bus;
mod daemon;
mod engine;
mod entries;
mod guest;
mod home;
mod init;
mod liar;
mod notifications;
mod real;
mod required;
mod signals;
mod stand_in;
mod straggler;
mod stream;
mod terminal;
mod tmux;

pub use breakable::BreakableDaemon;
pub use bus::TestBus;
pub use daemon::{Ended, Interfaces, PATIENCE, TestDaemon, VmPath, daemon_command, process};
pub use engine::TestEngine;
pub use entries::entries;
pub use guest::GuestParts;
pub use home::Home;
pub use init::Init;
pub use liar::{Liar, Lie};
pub use notifications::Notifications;
pub use real::REAL_PATIENCE;
pub use required::not_run;
pub use signals::{Changed, Signal, Signals};
pub use stand_in::{Manners, StandIn};
pub use straggler::{daemonises, has_died, pid_in};
pub use stream::{sees, stream};
pub use terminal::Terminal;
pub use tmux::Tmux;

/// A program of this workspace, built before the tests are (`cargo build --workspace`, which `make test` does).
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = env::current_exe().expect("a test has a path");
    let folder = own.ancestors().nth(2).expect("tests lie in a folder of the build's");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there: run `cargo build --workspace` first (make test does)", path.display());
    path
}
