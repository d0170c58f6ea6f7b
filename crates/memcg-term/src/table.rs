//! Text in aligned columns.

use unicode_width::UnicodeWidthStr;

/// Where a column's text sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A header and rows. Cells a row does not have are empty; what it has beyond the header is
/// dropped.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: impl IntoIterator<Item = (impl Into<String>, Align)>) -> Table {
        let columns = columns
            .into_iter()
            .map(|(name, align)| (name.into(), align))
            .collect();
        Table {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The header line and a line for each row, without trailing blanks.
    pub fn lines(&self) -> Vec<String> {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                self.rows
                    .iter()
                    .chain([&header])
                    .map(|row| width(row, i))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        [&header]
            .into_iter()
            .chain(&self.rows)
            .map(|row| self.line(row, &widths))
            .collect()
    }

    /// The lines as one text.
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, (_, align)) in self.columns.iter().enumerate() {
            if i > 0 {
                line.push_str("  ");
            }
            let cell = row.get(i).map_or("", String::as_str);
            let blanks = " ".repeat(widths[i] - cell.width());
            match align {
                Align::Left => line.extend([cell, &blanks]),
                Align::Right => line.extend([blanks.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn width(row: &[String], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.width())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new([
            ("NAME", Align::Left),
            ("SIZE", Align::Right),
            ("NOTE", Align::Left),
        ]);
        table.push(vec!["a".into(), "1.0K".into(), String::new()]);
        table.push(vec!["längst".into(), "12".into(), "x".into()]);
        table.push(vec!["short".into()]);
        table.push(vec!["日本".into(), "7".into()]);
        assert_eq!(
            table.text(),
            "NAME    SIZE  NOTE\na       1.0K\nlängst    12  x\nshort\n日本       7\n"
        );
    }
}
