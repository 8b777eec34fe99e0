//! Ending as a program ended.

use std::process::ExitCode;

use nexus_model::ExitStatus;
use nix::sys::signal::{SigSet, Signal, raise};

use crate::kernel;

/// Ends this process the way the program did, for whoever looks at the keeper only.
pub(crate) fn exit_like(status: ExitStatus) -> ExitCode {
    match status {
        ExitStatus::Code(code) => std::process::exit(code),
        ExitStatus::Signal(number) => {
            if let Ok(signal) = Signal::try_from(number) {
                kernel::reset_signal(signal);
                let _ = SigSet::from(signal).thread_unblock();
                let _ = raise(signal);
            }
            // A signal that does not kill by default killed the program all the same: a real-time one.
            std::process::exit(status.shell_code())
        }
        ExitStatus::Unknown => ExitCode::FAILURE,
    }
}
