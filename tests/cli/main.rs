//! nexusctl against a real daemon: what its users type, what they read, and the exit codes that their scripts rely on.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod attach;
mod console;
mod cp;
mod daemon;
mod exec;
mod files;
mod mcp;
mod run;
mod said;
mod storage;
mod vm;
