//! Instants as people type them.

use std::time::{Duration, SystemTime};

use jiff::{Zoned, civil::DateTime, tz::TimeZone};
use nexus_model::Timestamp;

/// What can be typed.
const FORMATS: &str = "write how long ago (10m, 2h), or when: today, yesterday, 2026-11-21, \"2026-11-21 09:30\", \
                       2026-11-21T09:30:00Z, 2026-11-21T09:30:00+01:00";

/// An instant that somebody typed: how long ago it was (`10m`, `-10m`, `2h`), `today` or `yesterday` at midnight, a date, a date
/// and a time. They are of this machine's time zone unless they end with `Z` or an offset from UTC, as in RFC 3339.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    parse_at(text.trim(), &Zoned::now()).ok_or_else(|| FORMATS.to_owned())
}

fn parse_at(text: &str, now: &Zoned) -> Option<Timestamp> {
    match text {
        "today" => return now.start_of_day().ok().and_then(timestamp),
        "yesterday" => return now.yesterday().ok()?.start_of_day().ok().and_then(timestamp),
        _ => {}
    }
    if let Ok(ago) = humantime::parse_duration(text.strip_prefix('-').unwrap_or(text)) {
        // A bare number has no unit, and 0 needs none.
        let has_unit = text.contains(|letter: char| letter.is_ascii_alphabetic());
        return has_unit.then(|| before(now, ago));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return timestamp(instant.to_zoned(TimeZone::UTC));
    }
    timestamp(text.parse::<DateTime>().ok()?.to_zoned(now.time_zone().clone()).ok()?)
}

/// So long ago; never when there were no clocks then.
fn before(now: &Zoned, ago: Duration) -> Timestamp {
    SystemTime::from(now.timestamp()).checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH).into()
}

/// None for what was before there were clocks.
fn timestamp(at: Zoned) -> Option<Timestamp> {
    u64::try_from(at.timestamp().as_microsecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    /// 2023-11-14 22:13:20 by UTC, on a machine that is two hours ahead of that.
    fn now() -> Zoned {
        jiff::Timestamp::from_second(1_700_000_000).unwrap().to_zoned(Offset::constant(2).to_time_zone())
    }

    fn seconds(text: &str) -> Option<u64> {
        parse_at(text, &now()).map(|at| at.0 / 1_000_000)
    }

    #[test]
    fn an_instant_is_how_long_ago_it_was() {
        for (text, ago) in [("10m", 600), ("-10m", 600), ("2h", 7_200), ("1h 30m", 5_400), ("0s", 0)] {
            assert_eq!(seconds(text), Some(1_700_000_000 - ago), "{text}");
        }
        assert_eq!(seconds("1000 years"), Some(0));
    }

    #[test]
    fn an_instant_is_of_this_machine_s_time_unless_it_says_otherwise() {
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14 22:13:20Z",
            "2023-11-14T23:13:20+01:00",
            "2023-11-15T00:13:20",
            "2023-11-15 00:13:20",
        ] {
            assert_eq!(seconds(text), Some(1_700_000_000), "{text}");
        }
        assert_eq!(seconds("2023-11-15 00:13"), Some(1_700_000_000 - 20));
        let midnight = 1_700_000_000 - 800;
        for (text, at) in [("2023-11-15", midnight), ("today", midnight), ("yesterday", midnight - 86_400)] {
            assert_eq!(seconds(text), Some(at), "{text}");
        }
    }

    #[test]
    fn what_is_none_names_what_can_be_typed() {
        for text in [
            "",
            "-",
            "10",
            "-10",
            "0",
            "1700000000",
            "soon",
            "2023-13-14",
            "2023-11-14 25:00:00",
            "1969-12-31",
            "ääääääääää",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("10m") && error.contains("yesterday") && error.contains("09:30"), "{text}: {error}");
        }
    }
}
