//! The supervisor's law (`docs/supervisor.md`), line by line.
//!
//! Time is tokio's paused clock, which jumps to the next timer whenever nothing else is left to do; only what needs a
//! thread that really blocks runs in real time. Nothing is slept for: a test waits for a status or an answer.

#![allow(clippy::unwrap_used, reason = "all of it is for tests, not only what is marked as one")]

mod chain;
mod endings;
mod lease;
mod nested;
mod probe;
mod property;
mod requests;
mod restarting;
mod slot;
mod starts;
mod status;
mod storm;
