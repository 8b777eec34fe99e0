//! How far a copy is.

use std::{
    io::{self, Read, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::output::amount;

/// Bytes that have moved, and how many there are in all, if that is known.
#[derive(Debug, Default)]
pub(super) struct Meter {
    moved: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    pub(super) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Relaxed) > 0
    }

    /// What to show of it.
    pub(super) fn describe(&self, elapsed: Duration) -> String {
        let (moved, total) = (self.moved.load(Relaxed), self.total.load(Relaxed));
        let each_second = moved.checked_div(elapsed.as_secs()).map(|bytes| format!(", {}/s", amount::size(bytes)));
        let each_second = each_second.unwrap_or_default();
        // Headers are not in the total.
        match moved.saturating_mul(100).checked_div(total) {
            Some(share) => {
                let (moved, share) = (amount::size(moved.min(total)), share.min(100));
                format!("{moved} of {}, {share} %{each_second}", amount::size(total))
            }
            None => format!("{}{each_second}", amount::size(moved)),
        }
    }
}

/// Counts what goes through.
#[derive(Debug)]
pub(super) struct Metered<'a, S> {
    pub(super) stream: S,
    pub(super) meter: &'a Meter,
}

impl<S: Read> Read for Metered<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.meter.moved.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

impl<S: Write> Write for Metered<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.meter.moved.fetch_add(written as u64, Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_shown_of_what_is_known() {
        let meter = Meter::default();
        Metered { stream: io::sink(), meter: &meter }.write_all(&[0; 3000]).unwrap();
        let unknown = meter.describe(Duration::ZERO);
        assert!(!unknown.contains('%') && !unknown.contains("/s"), "{unknown}");
        meter.expect(6000);
        assert!(meter.describe(Duration::from_secs(2)).contains(", 50 %, "));
        meter.expect(100);
        assert!(meter.describe(Duration::ZERO).ends_with(", 100 %"));
    }
}
