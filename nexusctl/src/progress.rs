//! What is shown of what is being waited for, on standard error: a line that moves on a terminal, and otherwise a line for
//! each step where `NEXUSCTL_PROGRESS=plain` asks for it.

use std::{cell::RefCell, env, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexus_dbus::client::JobProperties;

use crate::output::{self, amount, clean, style};

/// The environment variable that asks for lines: `plain`, as docker's `--progress=plain` does.
const VARIABLE: &str = "NEXUSCTL_PROGRESS";

/// Shows one thing under way; nothing at all where nobody looks. The moving line vanishes when it is dropped.
pub(crate) struct Progress {
    title: String,
    looks: Looks,
}

enum Looks {
    Moving(ProgressBar),
    /// With what was said last.
    Plain(RefCell<String>),
    Hidden,
}

impl Progress {
    /// For what is called `title`: `Starting web`.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        let title = clean(&title.into());
        let looks = if env::var_os(VARIABLE).is_some_and(|looks| looks == "plain") {
            Looks::Plain(RefCell::default())
        } else {
            moving(&title).map_or(Looks::Hidden, Looks::Moving)
        };
        Self { title, looks }
    }

    /// Whether anybody sees it, so that it is worth asking for news.
    pub(crate) const fn is_seen(&self) -> bool {
        !matches!(self.looks, Looks::Hidden)
    }

    /// Shows what is being done.
    pub(crate) fn stage(&self, stage: &str) {
        let stage = clean(stage);
        let text = if stage.is_empty() { self.title.clone() } else { format!("{}: {stage}", self.title) };
        match &self.looks {
            Looks::Moving(bar) => bar.set_message(text),
            Looks::Plain(told) => {
                if *told.borrow() != text {
                    output::note(&text);
                    *told.borrow_mut() = text;
                }
            }
            Looks::Hidden => {}
        }
    }

    /// Shows how far a job is; as lines, only what it is at, or there would be one for each percent.
    pub(crate) fn job(&self, job: &JobProperties) {
        match self.looks {
            Looks::Plain(_) => self.stage(&job.stage),
            Looks::Moving(_) | Looks::Hidden => self.stage(&describe(job)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Looks::Moving(bar) = &self.looks {
            bar.finish_and_clear();
        }
    }
}

/// A line that moves; none where standard error is no terminal.
fn moving(title: &str) -> Option<ProgressBar> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if bar.is_hidden() {
        return None;
    }
    // The templates are constants that the tests draw.
    if let Ok(looks) = ProgressStyle::with_template(if style::on_stderr() {
        "{spinner:.green} {msg} {elapsed:.dim}"
    } else {
        "{spinner} {msg} {elapsed}"
    }) {
        bar.set_style(looks);
    }
    bar.set_message(title.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    Some(bar)
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
