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

    /// What was found, for people; only the first time. What is adopted later was under this daemon already.
    pub(crate) fn tell(&self) -> Option<String> {
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
        Some(if ended == 0 { adopted } else { format!("{adopted}, {} found ended", vms(ended)) })
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
        assert_eq!(found.tell().as_deref(), Some("2 VMs adopted, 1 VM found ended"));
        found.adopted();
        assert_eq!(found.tell(), None);
        assert_eq!(Found::default().tell().as_deref(), Some("no VM adopted"));
    }
}
