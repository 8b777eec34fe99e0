//! Lines for whoever reads the console or the service's journal.

use std::{fmt, io::Write};

/// Writes one line to standard error, which is the console for process 1. A line that can't be written is lost: there
/// is nobody else to tell.
macro_rules! say {
    ($($format:tt)*) => { $crate::log::write_line(format_args!($($format)*)) };
}
pub(crate) use say;

pub(crate) fn write_line(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "guest-agent: {line}");
}
