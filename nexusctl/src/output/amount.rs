//! Sizes and times as people write and read them.

use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use nexus_model::{Timestamp, vm::MIN_MEMORY_BYTES};

/// A size that somebody typed: `512M`, `2G`, `1.5GiB`. A unit is a power of 1024; without one it is bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let config = parse_size::Config::new().with_binary();
    let bytes = config.parse_size(text).map_err(|_| "write a number and a unit: 512M, 2G".to_owned())?;
    // `MB` is a power of 1000 for the crate. For memory and disks it is the same as `M` here.
    let upper = text.trim().to_ascii_uppercase();
    match upper.strip_suffix('B').filter(|rest| rest.ends_with(|last: char| last.is_ascii_alphabetic())) {
        Some(rest) => config.parse_size(rest).map_err(|_| "write a number and a unit: 512M, 2G".to_owned()),
        None => Ok(bytes),
    }
}

/// The memory of a VM. What is too little for any and has no unit was meant to have one.
pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < MIN_MEMORY_BYTES && text.trim().bytes().all(|digit| digit.is_ascii_digit()) {
        let meant = if bytes < MIN_MEMORY_BYTES >> 20 { MIN_MEMORY_BYTES >> 20 } else { bytes };
        return Err(format!("without a unit it is bytes: did you mean {meant}M?"));
    }
    Ok(bytes)
}

/// A time that somebody typed: `30s`, `2m`, `1h 30m`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|_| "write a number and a unit: 30s, 2m".to_owned())
}

/// A size to read: `512 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let text = ByteSize::b(bytes).display().iec().to_string();
    text.replace(".0 ", " ")
}

/// A time to read: `2.3 s`, `450 ms`, `3 minutes`.
pub(crate) fn duration(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else if time < Duration::from_secs(60) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        rough(time)
    }
}

/// The time in its largest unit.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..31_536_000 => (seconds / 86_400, "day"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// How long ago an instant was, in its largest unit; `never`.
pub(crate) fn ago(instant: Timestamp, now: Timestamp) -> String {
    if instant.is_never() {
        return "never".to_owned();
    }
    match instant.until(now) {
        moment if moment < Duration::from_secs(1) => "now".to_owned(),
        time => format!("{} ago", rough(time)),
    }
}

/// In how long an instant is.
pub(crate) fn ahead(instant: Timestamp, now: Timestamp) -> String {
    format!("in {}", duration(now.until(instant)))
}

/// An instant as UTC, to the second; empty for never.
pub(crate) fn instant(instant: Timestamp) -> String {
    if instant.is_never() {
        return String::new();
    }
    // The last second that the format has a place for, at the end of the year 9999.
    let seconds = (instant.0 / 1_000_000).min(253_402_300_799);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// An instant, both ways; empty for never.
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    if at.is_never() { String::new() } else { format!("{} ({})", ago(at, now), instant(at)) }
}

/// Now.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("512MB", 512 << 20),
            ("512MiB", 512 << 20),
            ("2G", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("4096", 4096),
            ("4096B", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1M", "12X", "a lot"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_without_a_unit_was_meant_to_have_one() {
        assert_eq!(parse_memory("256").unwrap_err(), "without a unit it is bytes: did you mean 256M?");
        assert_eq!(parse_memory("1").unwrap_err(), "without a unit it is bytes: did you mean 32M?");
        assert_eq!(parse_memory("268435456"), Ok(256 << 20));
        assert_eq!(parse_memory("256M"), Ok(256 << 20));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn sizes_to_read() {
        for (bytes, text) in [(0, "0 B"), (512 << 20, "512 MiB"), (3 << 29, "1.5 GiB"), (1000, "1000 B")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_to_read() {
        let second = 1_000_000;
        let now = Timestamp(2_000_000_000 * second);
        for (before, text) in [(0, "now"), (1, "1 second ago"), (150, "2 minutes ago"), (7_200, "2 hours ago")] {
            assert_eq!(ago(Timestamp(now.0 - before * second), now), text);
        }
        assert_eq!(ago(Timestamp::NEVER, now), "never");
        // The clock was set back.
        assert_eq!(ago(Timestamp(now.0 + second), now), "now");
        assert_eq!(ahead(Timestamp(now.0 + 4 * second), now), "in 4.0 s");
        assert_eq!(duration(Duration::from_millis(450)), "450 ms");
        assert_eq!(instant(Timestamp(1_700_000_000 * second)), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn an_instant_beyond_all_clocks_is_no_panic() {
        assert!(!instant(Timestamp(u64::MAX)).is_empty());
    }
}
