//! When the reaper looks.

use std::time::Duration;

use tokio::time::Instant;

/// How long after a failure or a prune it is looked what that left: failures come in crowds, and what is undone takes a
/// moment.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// When it is looked next. Changes are answered with when that is now, or none when it is as it was.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// At most one look is ahead.
    next: Option<Instant>,
    /// When it is to be looked what the last failure, or prune, left: an earlier look may be too early for that.
    settled: Option<Instant>,
}

impl Agenda {
    /// Something may have been left just now, by what failed or was pruned.
    pub(super) fn look_soon(&mut self, now: Instant) -> Option<Instant> {
        self.settled = Some(now + SETTLE);
        self.plan(now + SETTLE)
    }

    /// It is to be looked at that time, or earlier.
    pub(super) fn plan(&mut self, at: Instant) -> Option<Instant> {
        if self.next.is_some_and(|next| next <= at) {
            return None;
        }
        self.next = Some(at);
        self.next
    }

    /// It is looked now. Some look must still come when what was left has not settled.
    pub(super) fn looks(&mut self, now: Instant) -> Option<Instant> {
        self.settled = self.settled.filter(|at| *at > now);
        self.next = self.settled;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: such a failure was forgotten.
    #[test]
    fn a_failure_shortly_before_a_look_is_looked_at_once_it_has_settled() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        let first = agenda.look_soon(start).unwrap();
        assert_eq!(first, start + SETTLE);
        let shortly_before = first - SETTLE / 10;
        assert_eq!(agenda.look_soon(shortly_before), None);
        assert_eq!(agenda.looks(first), Some(shortly_before + SETTLE));
        assert_eq!(agenda.looks(shortly_before + SETTLE), None);
    }

    #[test]
    fn a_look_that_is_planned_meanwhile_does_not_replace_it() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        let settled = agenda.look_soon(start).unwrap();
        let earlier = start + SETTLE / 2;
        assert_eq!(agenda.plan(earlier), Some(earlier));
        assert_eq!(agenda.plan(settled), None);
        assert_eq!(agenda.looks(earlier), Some(settled));
        assert_eq!(agenda.looks(settled), None);
        assert_eq!(agenda.plan(settled + SETTLE), Some(settled + SETTLE));
    }
}
