//! Waits that a policy imposes, which are no cost of Nexus.

use std::time::{Duration, Instant, SystemTime};

/// When an instant of the bus is (in microseconds since the epoch), on the clock that measures.
pub(crate) fn instant(microseconds: u64) -> Instant {
    let (now, clock) = (Instant::now(), SystemTime::now());
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(microseconds);
    match at.duration_since(clock) {
        Ok(ahead) => now + ahead,
        Err(past) => now.checked_sub(past.duration()).unwrap_or(now),
    }
}

/// How long something was waited for that is due then, by somebody who began to wait at `since` at the latest.
pub(crate) fn wait(since: Instant, due: u64) -> Duration {
    instant(due).saturating_duration_since(since)
}
