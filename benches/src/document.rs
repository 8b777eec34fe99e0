//! The document with the figures: a text that is written by hand, the machine, and a section for each thing measured.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Outcome;

/// In the document, everything after this line is written here.
const MARK: &str = "<!-- What follows is written by `make bench`. -->";

/// The beginning of a section.
const HEADING: &str = "### ";

/// A thing that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// What.
    pub(crate) title: String,
    /// All of it, the heading included.
    pub(crate) text: String,
}

/// The document.
#[derive(Debug)]
pub(crate) struct Document {
    path: PathBuf,
    by_hand: String,
    machine: String,
    sections: Vec<Section>,
}

impl Section {
    /// The line that it begins with.
    pub(crate) fn heading(title: &str) -> String {
        format!("{HEADING}{title}")
    }
}

impl Document {
    /// Reads it.
    ///
    /// # Errors
    /// When it can't be read, or has no place for figures.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(path)?;
        let (by_hand, figures) =
            text.split_once(MARK).ok_or_else(|| format!("{} has no line `{MARK}`", path.display()))?;
        let (machine, sections) = parse(figures);
        Ok(Self { path: path.to_owned(), by_hand: by_hand.to_owned(), machine, sections })
    }

    /// Forgets the figures that it has, for those of this machine.
    pub(crate) fn begin_anew(&mut self, machine: &str) {
        machine.clone_into(&mut self.machine);
        self.sections.clear();
    }

    /// Makes sure that what is measured on this machine may stand beside the figures that it has.
    ///
    /// # Errors
    /// When they are another machine's.
    pub(crate) fn check_machine(&self, machine: &str) -> Outcome<()> {
        if self.machine == machine {
            return Ok(());
        }
        let path = self.path.display();
        Err(format!("the figures in {path} are of another machine ({}): measure everything", self.machine).into())
    }

    /// Puts sections in the place of those with the same title, or at the end.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn save(mut self, sections: Vec<Section>) -> Outcome<()> {
        self.replace(sections);
        let mut text = format!("{}{MARK}\n\n{}\n", self.by_hand, self.machine);
        for section in &self.sections {
            text.push('\n');
            text.push_str(section.text.trim_end());
            text.push('\n');
        }
        Ok(fs::write(self.path, text)?)
    }

    fn replace(&mut self, sections: Vec<Section>) {
        for section in sections {
            match self.sections.iter_mut().find(|known| known.title == section.title) {
                Some(known) => *known = section,
                None => self.sections.push(section),
            }
        }
    }
}

/// The machine, and the sections.
fn parse(figures: &str) -> (String, Vec<Section>) {
    let mut machine = String::new();
    let mut sections: Vec<Section> = Vec::new();
    for line in figures.lines() {
        if let Some(title) = line.strip_prefix(HEADING) {
            sections.push(Section { title: title.to_owned(), text: String::new() });
        }
        let text = sections.last_mut().map_or(&mut machine, |section| &mut section.text);
        text.push_str(line);
        text.push('\n');
    }
    (machine.trim().to_owned(), sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Costs\n\nBy hand.\n\n<!-- What follows is written by `make bench`. -->\n\nA machine.\n\n\
                            ### One\n\n| 1 |\n\n### Two\n\n| 2 |\n";

    fn section(title: &str, figure: &str) -> Section {
        Section { title: title.to_owned(), text: format!("### {title}\n\n{figure}\n") }
    }

    /// The document after these were measured.
    fn saved(anew: bool, sections: Vec<Section>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("benchmarks.md");
        fs::write(&path, DOCUMENT).unwrap();
        let mut document = Document::open(&path).unwrap();
        if anew {
            document.begin_anew("A machine.");
        }
        document.save(sections).unwrap();
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_section_takes_the_place_of_its_last_run_and_leaves_the_others_as_they_are() {
        assert_eq!(saved(false, Vec::new()), DOCUMENT);
        assert_eq!(saved(false, vec![section("One", "| 9 |")]), DOCUMENT.replace("| 1 |", "| 9 |"));
        let three = section("Three", "| 3 |");
        assert_eq!(saved(false, vec![three.clone()]), format!("{DOCUMENT}\n{}", three.text));
    }

    #[test]
    fn a_whole_run_leaves_nothing_of_the_last_one() {
        let (head, _) = DOCUMENT.split_once("### One").unwrap();
        let three = section("Three", "| 3 |");
        assert_eq!(saved(true, vec![three.clone()]), format!("{head}{}", three.text));
    }

    #[test]
    fn figures_of_two_machines_do_not_stand_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("benchmarks.md");
        fs::write(&path, DOCUMENT).unwrap();
        let document = Document::open(&path).unwrap();
        assert!(document.check_machine("A machine.").is_ok());
        assert!(document.check_machine("Another one.").is_err());
    }
}
