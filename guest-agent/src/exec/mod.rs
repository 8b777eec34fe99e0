//! Commands: how they are started, kept together, and ended.

mod account;
mod attachment;
mod cgroup;
mod freezer;
mod group;
mod named;
mod process_table;
mod run;
mod spawner;

pub(crate) use attachment::{Attachment, Side};
pub(crate) use named::{Claimed, ExecTable};
pub(crate) use run::{discard, run};
pub(crate) use spawner::Spawner;
