//! What became of the VMs that ran when the daemon before this one ended.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Counts what a daemon finds when it begins, until that is told.
#[derive(Debug, Default)]
pub(crate) struct Found {
    adopted: AtomicU32,
    ended: AtomicU32,
    told: AtomicBool,
}

impl Found {
    /// A VM runs on.
    pub(crate) fn adopted(&self) {
        self.adopted.fetch_add(1, Ordering::Relaxed);
    }

    /// A VM had ended.
    pub(crate) fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// What was found, for people; only the first time. `all` is whether everything was looked at: what is adopted
    /// after that was under this daemon already.
    pub(crate) fn tell(&self, all: bool) -> Option<String> {
        if self.told.swap(true, Ordering::Relaxed) {
            return None;
        }
        let vms = |count: u32| match count {
            0 => "no VM".to_owned(),
            1 => "1 VM".to_owned(),
            count => format!("{count} VMs"),
        };
        let (adopted, ended) = (self.adopted.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed));
        let adopted = format!("{} adopted", vms(adopted));
        let ended = if ended == 0 { String::new() } else { format!(", {} found ended", vms(ended)) };
        Some(format!("{adopted}{ended}{}", if all { "" } else { " so far" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told_once() {
        let found = Found::default();
        (0..2).for_each(|_| found.adopted());
        found.ended();
        assert_eq!(found.tell(true).as_deref(), Some("2 VMs adopted, 1 VM found ended"));
        found.adopted();
        assert_eq!(found.tell(true), None);
        assert_eq!(Found::default().tell(true).as_deref(), Some("no VM adopted"));
    }

    #[test]
    fn what_was_not_all_is_told_as_such() {
        let found = Found::default();
        found.adopted();
        assert_eq!(found.tell(false).as_deref(), Some("1 VM adopted so far"));
        found.ended();
        assert_eq!(found.tell(true), None);
    }
}
