//! Durations that were measured.

use std::time::Duration;

/// All of one kind. Few enough to keep each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The smallest that `percent` of them do not exceed (the nearest rank); zero when there is none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(samples: &[u64]) -> Samples {
        samples.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let hundred: Samples = (1..=100).rev().map(Duration::from_secs).collect();
        assert_eq!(hundred.median(), Duration::from_secs(50));
        assert_eq!(hundred.percentile(99), Duration::from_secs(99));
        assert_eq!(hundred.percentile(100), Duration::from_secs(100));
        assert_eq!(seconds(&[3, 1, 2]).median(), Duration::from_secs(2));
        assert_eq!(seconds(&[7]).percentile(99), Duration::from_secs(7));
        assert_eq!(seconds(&[]).median(), Duration::ZERO);
    }
}
