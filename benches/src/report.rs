//! What was measured, as Markdown: printed as it comes, and kept for the document.

use std::{error::Error, time::Duration};

use crate::{document::Section, samples::Samples};

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
}

impl Report {
    /// A line as it is, of the section that was begun last.
    #[expect(clippy::print_stdout, reason = "this is what the bench is for")]
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        println!("{}", line.as_ref());
        if let Some(section) = self.sections.last_mut() {
            section.text.push_str(line.as_ref());
            section.text.push('\n');
        }
    }

    /// A section, and what is measured in it.
    pub(crate) fn section(&mut self, title: &str, what: &str) {
        let heading = Section::heading(title);
        self.sections.push(Section { title: title.to_owned(), text: String::new() });
        self.line(format!("{heading}\n\n{what}\n"));
    }

    /// All of them.
    pub(crate) fn into_sections(self) -> Vec<Section> {
        self.sections
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

    /// The head of a table of how one thing is spread.
    pub(crate) fn spread(&mut self, what: &str) {
        self.columns(&[what, "p50", "p99", "largest"]);
    }

    /// A row of it, with how many samples there are.
    pub(crate) fn percentiles(&mut self, what: &str, samples: &Samples) {
        let percentile = |percent| duration(samples.percentile(percent));
        self.row(&[format!("{what} ({})", samples.len()), percentile(50), percentile(99), percentile(100)]);
    }

    /// A row of it: one above the other, by their percentiles.
    pub(crate) fn ratios(&mut self, what: &str, above: &Samples, below: &Samples) {
        let ratio = |percent| {
            let ratio = above.percentile(percent).as_secs_f64() / below.percentile(percent).as_secs_f64();
            format!("{ratio:.1} ×")
        };
        self.row(&[what.to_owned(), ratio(50), ratio(99), "–".to_owned()]);
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

    /// A row of it: how fast so many bytes were, by the medians of both.
    pub(crate) fn throughput(&mut self, what: &str, bytes: u64, nexus: &Samples, bare: &Samples, goal: f64) {
        let rate = |samples: &Samples| bytes as f64 / samples.median().as_secs_f64();
        let ratio = rate(nexus) / rate(bare);
        self.row(&[
            format!("{what} ({})", nexus.len()),
            throughput(rate(nexus)),
            throughput(rate(bare)),
            format!("{ratio:.2} ×"),
            format!("≥ {goal:.2} ×: {}", if ratio >= goal { "met" } else { "**missed**" }),
        ]);
    }
}

/// Bytes a second as a person reads them.
pub(crate) fn throughput(rate: f64) -> String {
    format!("{:.0} MiB/s", rate / f64::from(1 << 20))
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
