//! Sleep of this machine.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How long this machine has slept since it booted, to a few microseconds: one of its clocks goes on meanwhile, the other
/// does not (`clock_gettime(2)`).
#[must_use]
pub fn slept() -> Duration {
    let now = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
    // In this order, so that what passes between the two is no sleep.
    let with_sleep = now(ClockId::CLOCK_BOOTTIME);
    with_sleep.saturating_sub(now(ClockId::CLOCK_MONOTONIC))
}
