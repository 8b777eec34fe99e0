//! The frequency of the time stamp counter, which a guest in plain emulation has to be told.
//!
//! The `microvm` machine with ACPI is one of *reduced hardware*: Linux takes its tick from the local APIC and needs the
//! TSC to find out how fast that is. It measures the TSC against the interval timer, and gives up when emulation stutters
//! meanwhile, as it does on a busy host: then it has no tick at all and hangs in `calibrate_delay` for ever. Seen with
//! Linux 6.1 under QEMU 7.2 in most starts while two compilers ran; in none when it is told.
//!
//! Emulation hands the host's own counter to the guest, so its frequency is the guest's.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// Two readings this far apart agree with the true frequency to about 10 ppm.
const DISTANCE: Duration = Duration::from_millis(10);
/// The counter and the clock are read one after the other: the best of some tries is not torn apart by an interrupt.
const TRIES: usize = 5;

/// The host's counter in kHz; none where it does not count at a constant rate.
pub(super) fn frequency_khz() -> Option<u64> {
    if !counts_evenly(&fs::read_to_string("/proc/cpuinfo").ok()?) {
        return None;
    }
    let (first_count, first_instant) = reading()?;
    sleep(DISTANCE);
    let (count, instant) = reading()?;
    let ticks = u128::from(count.checked_sub(first_count)?);
    let nanoseconds = instant.duration_since(first_instant).as_nanos();
    u64::try_from((ticks * 1_000_000).checked_div(nanoseconds)?).ok()
}

/// Whether the counter keeps its rate when the CPU's clock changes and goes on when it sleeps.
fn counts_evenly(cpuinfo: &str) -> bool {
    cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':').map(|(_, flags)| flags)).is_some_and(
        |flags| {
            ["constant_tsc", "nonstop_tsc"]
                .iter()
                .all(|wanted| flags.split_ascii_whitespace().any(|flag| flag == *wanted))
        },
    )
}

fn reading() -> Option<(u64, Instant)> {
    (0..TRIES)
        .filter_map(|_| {
            let before = counter()?;
            let instant = Instant::now();
            let gap = counter()?.wrapping_sub(before);
            Some((gap, before.wrapping_add(gap / 2), instant))
        })
        .min_by_key(|(gap, ..)| *gap)
        .map(|(_, count, instant)| (count, instant))
}

#[cfg(target_arch = "x86_64")]
fn counter() -> Option<u64> {
    // SAFETY: the instruction only writes registers, and no process is kept from using it but one that asked for that
    // with PR_SET_TSC, which Nexus never does.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_stops_or_changes_is_not_used() {
        assert!(counts_evenly("model name\t: x\nflags\t\t: fpu constant_tsc rep_good nonstop_tsc\n"));
        assert!(!counts_evenly("flags\t\t: fpu tsc constant_tsc\n"));
        assert!(!counts_evenly("flags\t\t: fpu tsc nonstop_tsc\n"));
        assert!(!counts_evenly(""));
    }

    #[test]
    fn two_measurements_agree_within_a_thousandth() {
        let Some(first) = frequency_khz() else {
            eprintln!("skipped: this machine's time stamp counter is not constant");
            return;
        };
        let second = frequency_khz().unwrap();
        assert!(first.abs_diff(second) * 1000 <= first, "{first} kHz and {second} kHz");
    }
}
