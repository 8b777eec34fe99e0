//! What is written to the standard output: tables and sentences for people, JSON for programs.

pub(crate) mod amount;
pub(crate) mod instant;
mod reader;
pub(crate) mod style;
mod table;
pub(crate) mod text;

use std::io::{self, IsTerminal, Write};

pub(crate) use reader::while_read;
pub(crate) use table::{Fields, Table};
pub(crate) use text::{clean, sentence};

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences, for people
    #[default]
    Table,
    /// JSON with stable keys and raw units, for programs
    Json,
}

/// For commands that show things.
#[derive(Debug, clap::Args)]
pub(crate) struct FormatArgs {
    /// How to write the result: table, for people, or json, for programs
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) output: Format,
}

/// For commands that list things with a name.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// Only the names, one a line
    #[arg(short, long, conflicts_with = "output")]
    pub(crate) quiet: bool,
}

/// Writes one line.
///
/// # Errors
/// When nobody reads, or the disk is full.
pub(crate) fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes a value as JSON: indented, since people read it as well.
///
/// # Errors
/// When nobody reads, or the disk is full.
pub(crate) fn json(value: &serde_json::Value) -> io::Result<()> {
    line(format!("{value:#}"))
}

/// Writes names, one a line.
///
/// # Errors
/// When nobody reads, or the disk is full.
pub(crate) fn names<'a>(names: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let text: Vec<&str> = names.collect();
    if text.is_empty() { Ok(()) } else { line(text.join("\n")) }
}

/// What was done and what may be done next. The second line is for people only.
///
/// # Errors
/// When nobody reads, or the disk is full.
pub(crate) fn done(text: impl AsRef<str>, next: &str) -> io::Result<()> {
    line(text)?;
    if io::stdout().is_terminal() { line(format!("Next: {next}")) } else { Ok(()) }
}

/// Says that something may not be as it was meant.
pub(crate) fn warn(text: &str) {
    note(format!("{}: {}", style::paint(style::WARNING, "Warning"), clean(&sentence(text))));
}

/// Says something beside the output.
pub(crate) fn note(text: impl AsRef<str>) {
    // Where standard error can't be written to, there is nobody to tell.
    let _ = writeln!(anstream::stderr().lock(), "{}", text.as_ref());
}
