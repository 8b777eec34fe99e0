//! The host's memory, as `proc_meminfo(5)` has it.

use std::fs;

/// All of it; none where the kernel does not say.
#[must_use]
pub fn total_bytes() -> Option<u64> {
    field("MemTotal:")
}

/// What new processes can have without swapping; none where the kernel does not say.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    field("MemAvailable:")
}

fn field(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
