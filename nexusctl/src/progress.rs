//! The line that shows what is being waited for. It is on standard error, and only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexus_dbus::client::JobProperties;

use crate::output::{amount, clean, style};

/// A line that shows one thing under way; nothing at all where nobody looks. It vanishes when it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    title: String,
}

impl Progress {
    /// A line for what is called `title`: `Starting web`.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The templates are constants that the tests draw.
        if let Ok(looks) = ProgressStyle::with_template(if style::on_stderr() {
            "{spinner:.green} {msg} {elapsed:.dim}"
        } else {
            "{spinner} {msg} {elapsed}"
        }) {
            bar.set_style(looks);
        }
        let title = clean(&title.into());
        bar.set_message(title.clone());
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar, title }
    }

    /// Whether anybody sees it, so that it is worth asking for news.
    pub(crate) fn is_seen(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows what is being done.
    pub(crate) fn stage(&self, stage: &str) {
        self.bar.set_message(format!("{}: {}", self.title, clean(stage)));
    }

    /// Shows how far a job is.
    pub(crate) fn job(&self, job: &JobProperties) {
        let text = describe(job);
        if !text.is_empty() {
            self.stage(&text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A job's stage, and the share of it that is done.
pub(crate) fn describe(job: &JobProperties) -> String {
    let mut text = job.stage.clone();
    if job.total_bytes > 0 {
        let bytes = format!("{} of {}", amount::size(job.completed_bytes), amount::size(job.total_bytes));
        text = if text.is_empty() { bytes } else { format!("{text}, {bytes}") };
    } else if job.progress >= 0.0 {
        let share = format!("{:.0} %", job.progress * 100.0);
        text = if text.is_empty() { share } else { format!("{text}, {share}") };
    }
    text
}
