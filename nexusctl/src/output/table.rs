//! Tables for people.

use comfy_table::{CellAlignment, presets};

use super::clean;

/// A table without lines: columns under capitals, three spaces between them.
pub(crate) struct Table {
    table: comfy_table::Table,
}

impl Table {
    /// A table with these columns and no row.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(columns.iter().copied());
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        Self { table }
    }

    /// Numbers in these columns end at the right.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        for column in columns {
            if let Some(column) = self.table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// One row more.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.table.add_row(cells.into_iter().map(|cell| clean(cell.as_ref())));
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Everything about one thing: a line for each of its properties.
#[derive(Default)]
pub(crate) struct Fields {
    lines: Vec<(&'static str, String)>,
}

impl Fields {
    /// One line more, unless there is nothing to say. Without a label it goes on with the one before.
    pub(crate) fn field(mut self, label: &'static str, value: impl AsRef<str>) -> Self {
        let value = clean(value.as_ref());
        if !value.is_empty() {
            self.lines.push((label, value));
        }
        self
    }
}

impl std::fmt::Display for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.lines.iter().map(|(label, _)| label.len() + 1).max().unwrap_or_default();
        for (index, (label, value)) in self.lines.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let label = if label.is_empty() { String::new() } else { format!("{label}:") };
            write!(f, "{end}{label:width$}  {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let mut table = Table::new(&["NAME", "MEMORY", "STATE"]).right(&[1]);
        table.row(["web", "512 MiB", "running"]);
        table.row(["database-1", "2 GiB", ""]);
        assert_eq!(
            table.to_string(),
            "NAME          MEMORY   STATE\nweb          512 MiB   running\ndatabase-1     2 GiB"
        );
    }

    #[test]
    fn a_cell_is_one_line_without_escapes() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["\x1b[2J\nx", "y"]);
        assert_eq!(table.to_string(), "A        B\n\u{fffd}[2J x   y");
    }

    #[test]
    fn fields_are_aligned_and_empty_ones_left_out() {
        let fields = Fields::default().field("Name", "web").field("Label", "").field("Memory", "512 MiB");
        assert_eq!(fields.to_string(), "Name:    web\nMemory:  512 MiB");
    }
}
