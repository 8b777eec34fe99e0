//! The few colours. Streams that are no terminal, or a `NO_COLOR`, take them out again: see [`anstream`].

use anstream::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};

/// The word that begins an error, and what is as bad as one.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What needs a look.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// A command to type.
pub(crate) const HINT: Style = Style::new().bold();
/// What is there for completeness.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// The style of a health, or of a VM's state.
pub(crate) fn of(word: &str) -> Style {
    match word {
        "ok" | "running" | "done" => GOOD,
        "failed" | "crashed" | "unmanaged" | "missing" => ERROR,
        "restarting" | "degraded" | "unreachable" | "starting" | "stopping" | "draining" | "paused" => WARNING,
        _ => Style::new(),
    }
}

/// A word in its style.
pub(crate) fn paint(style: Style, word: &str) -> String {
    format!("{style}{word}{style:#}")
}

/// Whether standard error takes colours.
pub(crate) fn on_stderr() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never
}
