//! Which rows of a list were told already.

use std::collections::BTreeSet;

use nexus_dbus::CALLS_UNDER_WAY;
use serde_json::Value;

/// The numbers of the newest rows that were told: as many as a daemon remembers calls that are under way, which are
/// told late.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<u64>);

impl Told {
    /// Whether there was no word of it yet; from now on there was. A row without a number is always new.
    pub(super) fn is_new(&mut self, row: &Value) -> bool {
        let Some(number) = row["seq"].as_u64() else { return true };
        let new = self.0.insert(number);
        if self.0.len() > CALLS_UNDER_WAY {
            self.0.pop_first();
        }
        new
    }

    /// The number behind which everything is either remembered here or was not told; none when nothing was told. A call is
    /// told when it has ended, so that there may be some before the last of which there is no word yet.
    pub(super) fn after(&self) -> Option<u64> {
        self.0.first().map(|first| first.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_told_once() {
        let mut told = Told::default();
        assert_eq!(told.after(), None);
        let mut new = |number: u64| told.is_new(&json!({ "seq": number }));
        // The third call ended before the second.
        assert!(new(5) && new(7) && !new(5) && new(6) && !new(7));
        assert_eq!(told.after(), Some(4));
        assert!(told.is_new(&Value::Null));
    }

    #[test]
    fn what_is_forgotten_is_not_asked_for_again() {
        let mut told = Told::default();
        for number in 1..=CALLS_UNDER_WAY as u64 + 3 {
            assert!(told.is_new(&json!({ "seq": number })));
        }
        assert_eq!(told.after(), Some(3));
    }
}
