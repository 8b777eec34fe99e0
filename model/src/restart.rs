//! Restart arithmetic: how long to wait before the next try, and when to give up.

use std::{collections::VecDeque, time::Duration};

use crate::{Timestamp, kebab::words};

words! {
    /// When a VM whose VMM ended is started again.
    pub enum RestartPolicy {
        /// Never.
        No = "no",
        /// When it failed: the VMM crashed, or the guest panicked.
        OnFailure = "on-failure",
        /// Whenever it ended, but for a stop that the user asked for.
        Always = "always",
    }
}

impl RestartPolicy {
    /// How long is waited before a VM that failed is started again: 1 s doubled to 60 s, ±20 %.
    pub const BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: 0.2 };
    /// Five restarts in ten minutes, then it has failed; ten minutes up and the count begins anew.
    pub const INTENSITY: Intensity = Intensity { max: 5, window: Duration::from_secs(600) };
}

/// Exponential back-off with jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Wait before the first retry.
    pub initial: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// How far the wait is spread to either side, as a share of itself (0.2 is ±20 %).
    pub jitter: f64,
}

impl Backoff {
    /// The wait before retry number `attempt` (0 is the first): `initial × 2^attempt`, at most `max`, spread by
    /// `spread`, a number from 0 to 1 that the caller draws.
    #[must_use]
    pub fn delay(&self, attempt: u32, spread: f64) -> Duration {
        let doubled = 2_u32.checked_pow(attempt).and_then(|factor| self.initial.checked_mul(factor));
        let base = doubled.map_or(self.max, |wait| wait.min(self.max));
        let factor = 1.0 + self.jitter * (2.0 * spread.clamp(0.0, 1.0) - 1.0);
        base.mul_f64(factor.max(0.0))
    }
}

/// How many failures within which time are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// As many failures as this are still answered with a restart.
    pub max: u32,
    /// The time in which they are counted.
    pub window: Duration,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after this long.
    Retry(Duration),
    /// More than [`Intensity::max`] failures within [`Intensity::window`].
    GiveUp,
}

/// Counts failures against an [`Intensity`] and a [`Backoff`].
#[derive(Clone, Debug, PartialEq)]
pub struct FailureWindow {
    backoff: Backoff,
    intensity: Intensity,
    recent: VecDeque<Timestamp>,
    attempt: u32,
    /// When the last retry was due.
    retried: Timestamp,
}

impl FailureWindow {
    /// No failure so far.
    #[must_use]
    pub const fn new(backoff: Backoff, intensity: Intensity) -> Self {
        Self { backoff, intensity, recent: VecDeque::new(), attempt: 0, retried: Timestamp::NEVER }
    }

    /// Counts a failure at `now`, with `spread` drawn from 0 to 1, and says what follows. A failure that comes a whole
    /// window after the last retry was due starts the back-off anew.
    pub fn failed(&mut self, now: Timestamp, spread: f64) -> Verdict {
        if !self.retried.is_never() && self.retried.until(now) >= self.intensity.window {
            self.attempt = 0;
        }
        self.retried = now;
        while self.recent.front().is_some_and(|first| first.until(now) >= self.intensity.window) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.is_exhausted() {
            return Verdict::GiveUp;
        }
        let delay = self.backoff.delay(self.attempt, spread);
        self.attempt = self.attempt.saturating_add(1);
        self.retried = now.after(delay);
        Verdict::Retry(delay)
    }

    /// Whether the last failure was one too many.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.recent.len() > usize::try_from(self.intensity.max).unwrap_or(usize::MAX)
    }

    /// Forgets every failure: a person said so, or the thing has been well for long enough.
    pub fn reset(&mut self) {
        self.recent.clear();
        self.attempt = 0;
        self.retried = Timestamp::NEVER;
    }

    /// The failures still counted, oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = Timestamp> + '_ {
        self.recent.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(window: Duration, up: Duration, failures: usize) -> Vec<u64> {
        let backoff = Backoff { initial: SECOND, max: 64 * SECOND, jitter: 0.0 };
        let mut faults = FailureWindow::new(backoff, Intensity { max: 1000, window });
        let mut now = Timestamp(1);
        (0..failures)
            .map(|_| {
                now = now.after(up);
                let Verdict::Retry(wait) = faults.failed(now, 0.5) else { panic!("gave up") };
                now = now.after(wait);
                wait.as_secs()
            })
            .collect()
    }

    /// The wait itself once counted as time in which all was well, so it never grew beyond the window.
    #[test]
    fn back_off_grows_beyond_the_window() {
        assert_eq!(waits(3 * SECOND, Duration::ZERO, 8), [1, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn back_off_begins_anew_after_a_whole_window() {
        assert_eq!(waits(10 * SECOND, 9 * SECOND, 4), [1, 2, 4, 8]);
        assert_eq!(waits(10 * SECOND, 10 * SECOND, 4), [1, 1, 1, 1]);
    }
}
