//! VMM drivers against real VMMs: QEMU with a real kernel, in plain emulation where there is no better.
//!
//! The kernel and the initial RAM disk come from `build/guest`, the vsock sidecar from `build/tools/bin` or `PATH`; `make`
//! puts them there. Without them these tests say so and pass, unless `NEXUS_REQUIRE_ALL=1` is set.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "the lints only see tests in functions marked so")]

mod firecracker;
mod guest;
mod machine;
mod process;
mod qemu;
mod vsock;
