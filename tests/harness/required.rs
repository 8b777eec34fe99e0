//! What happens to tests that can't run where they are. Crates that the harness itself is made of include this file by
//! its path.

use std::env;

/// Says why a test does not run here. Where all of them must (`NEXUS_REQUIRE_ALL=1`, as in `make test`), it fails.
///
/// # Panics
/// Then.
#[allow(unreachable_pub, reason = "where this file is included it is private")]
#[allow(clippy::print_stderr, reason = "this is where a test says it")]
pub fn not_run(reason: &str) {
    assert!(env::var_os("NEXUS_REQUIRE_ALL").is_none_or(|value| value != "1"), "NEXUS_REQUIRE_ALL=1, but {reason}");
    eprintln!("not run: {reason}");
}
