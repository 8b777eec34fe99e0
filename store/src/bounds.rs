//! How much is remembered of what is over.

/// How many rows are kept. Older ones go as new ones come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events: the last so many that happened, of each VM at most [`EVENTS_PER_VM`].
    pub events: u32,
    /// Calls that changed something.
    pub audit: u32,
    /// Jobs that have ended.
    pub jobs: u32,
}

/// How many events of one VM are kept, so that one that flaps does not push out those of all others.
pub const EVENTS_PER_VM: u32 = 1000;

impl Default for Bounds {
    fn default() -> Self {
        Self { events: 100_000, audit: 100_000, jobs: 1000 }
    }
}
