//! Columns that line up. Knows text only: no colour inside, because colour has no width.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of cells; each column is as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Align>,
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[Align], indent: usize) -> Self {
        Self {
            columns: columns.to_vec(),
            indent,
            rows: Vec::new(),
        }
    }

    /// Missing cells are empty, cells without a column are not shown.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into());
    }

    pub fn push(&mut self, mut cells: Vec<String>) {
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = " ".repeat(self.indent);
            for ((cell, align), &width) in row.iter().zip(&self.columns).zip(&widths) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:width$}  ")),
                    Align::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            f.write_str(line.trim_end())?;
            if index + 1 < self.rows.len() {
                f.write_str("\n")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[Align::Left, Align::Right, Align::Left], 2);
        table.row(["a".into(), "1".into()]);
        table.row(["long".into(), "1000".into(), "note".into()]);
        assert_eq!(table.to_string(), "  a        1\n  long  1000  note");
    }
}
