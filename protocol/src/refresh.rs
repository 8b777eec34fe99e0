//! What a guest gets anew that has stood still, or may have.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Blob;

/// What [`Call::Refresh`](crate::Call::Refresh) brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// The host's time as it was sent, in microseconds since 1970-01-01 00:00 UTC.
    pub clock_us: u64,
    /// Random bytes for the guest's pool, at most [`Refresh::MAX_ENTROPY_BYTES`], every bit of which is taken for random.
    pub entropy: Blob,
}

impl Refresh {
    /// Most bytes of entropy.
    pub const MAX_ENTROPY_BYTES: usize = 256;

    /// This machine's time, and new entropy: 512 bits.
    ///
    /// # Errors
    /// When the system has no random source.
    pub fn of_now() -> Result<Self, getrandom::Error> {
        let mut entropy = vec![0; 64];
        getrandom::fill(&mut entropy)?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock_us = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
        Ok(Self { clock_us, entropy: Blob(entropy) })
    }
}

/// Outcome of [`Call::Refresh`](crate::Call::Refresh).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// By how much the guest's clock was put forward, or back where it is negative; 0 when it was right.
    pub stepped_us: i64,
}
