//! What is listed under the names of one Nexus, and what of it can be removed, on real file systems and devices.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says why it fails or is skipped")]

#[path = "../scratch/mod.rs"]
mod scratch;

mod device;
mod folder;
mod ground;
mod mount;
