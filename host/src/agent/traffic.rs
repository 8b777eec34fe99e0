//! How much a control connection carries.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicU64, Ordering},
};

/// How much a control connection has carried: whole frames, and bytes with those of frames that have only begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the agent.
    pub bytes_in: u64,
    /// Bytes to the agent.
    pub bytes_out: u64,
    /// Frames from the agent.
    pub frames_in: u64,
    /// Frames to the agent.
    pub frames_out: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.frames_in += other.frames_in;
        self.frames_out += other.frames_out;
    }
}

/// Counts what one control connection carries, and can be read when that is gone.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
}

impl Meter {
    /// What was carried so far.
    #[must_use]
    pub fn read(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            frames_in: read(&self.frames_in),
            frames_out: read(&self.frames_out),
        }
    }

    /// So many bytes came.
    pub(super) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The last of them was the last of a frame.
    pub(super) fn received_frame(&self) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    /// A frame was sent, of so many bytes with its length.
    pub(super) fn sent_frame(&self, bytes: usize) {
        self.bytes_out.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.frames_out.fetch_add(1, Ordering::Relaxed);
    }
}
