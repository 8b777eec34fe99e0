//! What was measured, as Markdown: printed as it comes, and kept for the document.

use std::{error::Error, fs, path::Path, time::Duration};

use crate::{Outcome, samples::Samples};

/// In the document, everything after this line is the last run's.
const MARK: &str = "<!-- What follows is written by `make bench`. -->";

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// A line as it is.
    #[expect(clippy::print_stdout, reason = "this is what the bench is for")]
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        println!("{}", line.as_ref());
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A section, and what is measured in it.
    pub(crate) fn section(&mut self, title: &str, what: &str) {
        self.line(format!("\n### {title}\n\n{what}\n"));
    }

    /// The head of a table.
    pub(crate) fn columns(&mut self, columns: &[&str]) {
        self.line(format!("| {} |", columns.join(" | ")));
        let rule: Vec<_> = columns.iter().enumerate().map(|(n, _)| if n == 0 { "---" } else { "---:" }).collect();
        self.line(format!("| {} |", rule.join(" | ")));
    }

    /// A row of it.
    pub(crate) fn row(&mut self, cells: &[String]) {
        self.line(format!("| {} |", cells.join(" | ")));
    }

    /// The head of a table of comparisons.
    pub(crate) fn comparisons(&mut self) {
        self.columns(&["median of", "Nexus", "bare", "ratio", "goal"]);
    }

    /// A row of it: the medians of both, with how many samples there are of each.
    pub(crate) fn compare(&mut self, what: &str, nexus: &Samples, bare: &Samples, goal: Option<f64>) {
        let ratio = nexus.median().as_secs_f64() / bare.median().as_secs_f64();
        self.row(&[
            format!("{what} ({})", nexus.len()),
            duration(nexus.median()),
            duration(bare.median()),
            format!("{ratio:.2} ×"),
            goal.map_or_else(
                || "–".to_owned(),
                |goal| format!("≤ {goal:.2} ×: {}", if ratio <= goal { "met" } else { "**missed**" }),
            ),
        ]);
    }

    /// Puts it into the document at `path`, in place of an earlier run's.
    ///
    /// # Errors
    /// When the document can't be read or written, or has no place for it.
    pub(crate) fn save(&self, path: &Path) -> Outcome<()> {
        let document = fs::read_to_string(path)?;
        let (own, _) = document.split_once(MARK).ok_or_else(|| format!("{} has no line `{MARK}`", path.display()))?;
        Ok(fs::write(path, format!("{own}{MARK}\n\n{}", self.text))?)
    }
}

/// As a person reads it.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 1e-3 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

/// Why there are no figures.
#[expect(clippy::print_stderr, reason = "a program's last word")]
pub(crate) fn fail(error: &dyn Error) {
    eprintln!("nexus-bench: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  {error}");
        cause = error.source();
    }
}
