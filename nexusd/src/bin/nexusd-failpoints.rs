//! The daemon for tests that break it: with failpoints, and with an account of the heap.

use std::{alloc::System, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    if let Err(error) = nexusd::failpoints::obey(live_bytes) {
        #[expect(clippy::print_stderr, reason = "there is no log yet")]
        {
            eprintln!("nexusd-failpoints: {error}");
        }
        return ExitCode::FAILURE;
    }
    nexusd::main()
}

/// What the heap holds, in bytes. What grew or shrank in place is counted with what was allocated or freed.
fn live_bytes() -> i64 {
    let stats = HEAP.stats();
    let [taken, given] =
        [stats.bytes_allocated, stats.bytes_deallocated].map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    taken - given
}
