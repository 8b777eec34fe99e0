//! The host's memory.

use std::fs;

/// Memory that new processes can have without swapping: `MemAvailable` of `proc_meminfo(5)`. None where the kernel does
/// not say.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
