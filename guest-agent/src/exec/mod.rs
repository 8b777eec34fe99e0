//! Commands: how they are started, kept together, and ended.

mod account;
mod attachment;
mod cgroup;
mod follow;
mod freezer;
mod group;
mod leader;
mod named;
mod process_table;
mod run;
mod spawner;

pub(crate) use account::Account;
pub(crate) use attachment::{Attachment, Side};
pub(crate) use follow::follow;
pub(crate) use leader::Leader;
pub(crate) use named::{Claimed, ExecTable};
pub(crate) use run::run;
pub(crate) use spawner::{Spawner, system};
