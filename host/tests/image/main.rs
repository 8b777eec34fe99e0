//! Imports of disks, folders and archives, with the programs and file systems that users have.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says why it fails or is skipped")]

mod archive;
mod disk;
mod folder;
mod ground;
mod interruption;
mod refusal;
#[path = "../scratch/mod.rs"]
mod scratch;
mod tarball;
