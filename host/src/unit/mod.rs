//! Who holds the processes of a VM.
//!
//! They are never children of nexusd. A small program, `nexus-shim`, starts them, confines them, waits for them and keeps
//! their exit status; it is the *keeper* of that VM. With a systemd user manager it is the main process of a transient
//! service in `nexus.slice`, with resource limits; without one it is a session of its own. All else is the same:
//!
//! ```text
//! nexusd ── Keeper::start ─→ [systemd --user] ─→ nexus-shim ─┬→ init of the sandbox's process namespace
//!    ↑ start.sock: the launch, then the identities or why not │→ vsock sidecar
//!    └ process.json, exit.json in the runtime folder          └→ VMM
//! ```
//!
//! **Records.** `process.json` is there from the moment at which the VM's processes are to be adopted rather than forgotten,
//! and `exit.json` once all of them are gone, whether or not a nexusd was there to see it. Both stay until
//! [`Keeper::collect`], or until [`Keeper::start`] puts a new run in the place of the old one. The folder that holds them belongs to the keeper
//! alone: a sandbox that could write there is refused, since a VMM could forge its own end.
//!
//! **Death.** The keeper ends when any of its programs does, and takes the others along. When the keeper itself is killed
//! the kernel kills its programs (`PR_SET_PDEATHSIG`, and the end of the process namespace); how they ended is then
//! [`ExitStatus::Unknown`](nexus_model::ExitStatus::Unknown) unless systemd knows better.

mod error;
mod keeper;
mod keeper_process;
mod launch;
pub mod record;
mod start;
mod systemd;
mod turns;

pub use error::{StartFailure, UnitError};
pub use keeper::{HeldUnit, Keeper, KeeperKind, Started, UnitSpec, UnitState};
pub use keeper_process::{KeeperProcess, keeper_processes};
pub use launch::{InvalidLaunch, Launch, Log, Program, ProgramRole, Sandbox};
pub use record::ExitRecord;
