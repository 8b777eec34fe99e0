//! VMM drivers: how a machine is started, driven over its API and asked for its state, behind one trait.
//!
//! A driver starts no process. It says which programs to start ([`VmmDriver::prepare`] → [`Launch`]), and once
//! [`unit`](crate::unit) has started them it drives their API. It keeps no state of its own: every call takes the
//! [`MachinePlan`] and connects anew, so a machine that was adopted after a restart of the daemon is driven as one that
//! was just started, and an idle machine holds no connection.
//!
//! Another driver is one more file here, a [`VmmKind`](nexus_model::vm::VmmKind) and a line in `vmms.rs`.
//!
//! [`Launch`]: crate::unit::Launch

mod api_socket;
mod console;
mod driver;
mod error;
mod firecracker;
mod host_check;
mod kernel_args;
mod kvm;
mod last_words;
mod plan;
mod process;
mod qemu;
mod runtime_dir;
mod sandbox;
mod vmms;

pub use console::{GuestEnd, PREVIOUS_CONSOLE};
pub use driver::{MachineState, VmmDriver};
pub use error::VmmError;
pub use host_check::HostCheck;
use kernel_args::kernel_args;
pub use last_words::last_words;
pub use plan::MachinePlan;
pub(crate) use qemu::Qmp;
pub use vmms::{VmmConfig, Vmms};
