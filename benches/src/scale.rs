//! How often everything is measured.

use std::time::Duration;

/// How often, how many and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Boots of a real VM, of each kind.
    pub(crate) boots: usize,
    /// Rounds of calls, each of `calls` to either side.
    pub(crate) rounds: usize,
    /// Calls in a round.
    pub(crate) calls: usize,
    /// VMs in `GetManagedObjects`.
    pub(crate) objects: usize,
    /// Calls of `GetManagedObjects`, to either side.
    pub(crate) listings: usize,
    /// VMMs that are killed.
    pub(crate) deaths: usize,
    /// Commands in a guest.
    pub(crate) commands: usize,
    /// Runs of a whole program.
    pub(crate) programs: usize,
    /// Bytes in a stream.
    pub(crate) stream_bytes: u64,
    /// Streams, of each kind.
    pub(crate) streams: usize,
    /// Files in a tree.
    pub(crate) files: usize,
    /// Copies of it.
    pub(crate) copies: usize,
    /// Commands at once.
    pub(crate) crowd: usize,
    /// How often so many are run.
    pub(crate) crowds: usize,
    /// Keys pressed.
    pub(crate) keystrokes: usize,
    /// VMs with a busy terminal.
    pub(crate) busy: usize,
    /// How long they flood before a client calls, and while it does.
    pub(crate) flood: Duration,
    /// How often they do.
    pub(crate) floods: usize,
    /// Numbers of VMs of an idle daemon.
    pub(crate) fleets: &'static [usize],
    /// Starts of the daemon with each of these.
    pub(crate) startups: usize,
    /// How long an idle daemon is looked at.
    pub(crate) idle: Duration,
    /// Restarts of an actor.
    pub(crate) restarts: usize,
    /// Panics of an actor.
    pub(crate) panics: usize,
    /// VMMs that are killed and started again, one after the other.
    pub(crate) recoveries: usize,
    /// VMMs that are killed at once.
    pub(crate) victims: usize,
    /// How often they are.
    pub(crate) storms: usize,
}

impl Scale {
    /// Enough for a figure that can be quoted.
    pub(crate) const fn full() -> Self {
        Self {
            boots: 7,
            rounds: 20,
            calls: 500,
            objects: 1000,
            listings: 30,
            deaths: 200,
            commands: 200,
            programs: 50,
            stream_bytes: 1 << 30,
            streams: 3,
            files: 10_000,
            copies: 1,
            crowd: 100,
            crowds: 5,
            keystrokes: 500,
            busy: 64,
            flood: Duration::from_secs(5),
            floods: 3,
            fleets: &[0, 100, 1000],
            startups: 5,
            idle: Duration::from_secs(60),
            restarts: 200,
            panics: 50,
            recoveries: 50,
            victims: 200,
            storms: 5,
        }
    }

    /// Enough to see that the bench works.
    pub(crate) const fn quick() -> Self {
        Self {
            boots: 1,
            rounds: 2,
            calls: 50,
            objects: 20,
            listings: 3,
            deaths: 3,
            commands: 5,
            programs: 2,
            stream_bytes: 2 << 20,
            streams: 1,
            files: 200,
            copies: 1,
            crowd: 10,
            crowds: 1,
            keystrokes: 10,
            busy: 4,
            flood: Duration::from_secs(1),
            floods: 1,
            fleets: &[0, 5],
            startups: 1,
            idle: Duration::from_secs(2),
            restarts: 3,
            panics: 2,
            recoveries: 2,
            victims: 5,
            storms: 1,
        }
    }
}
