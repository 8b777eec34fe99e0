//! The store against real files, real processes and real file systems.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed")]

mod calls;
mod crash;
mod disk;
mod events;
mod lock;
mod namespace;
mod old;
mod reexec;
mod refusal;
mod rows;
mod sample;
mod v1;
mod v2;
mod v3;
