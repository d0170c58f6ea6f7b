//! Tab-separated rows under a header, as the files that are tables have them: as a table of text,
//! as JSON.

use crate::client::escape::printable;
use crate::table::{Align, Table};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A text of tab-separated rows under a header.
pub struct Rows<'a> {
    columns: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Rows<'a> {
    /// Of a file's text.
    pub fn parse(text: &'a str) -> Rows<'a> {
        let mut rows = text.lines().map(|line| line.split('\t').collect());
        Rows {
            columns: rows.next().unwrap_or_default(),
            rows: rows.collect(),
        }
    }

    /// Columns of numbers only stand right.
    pub fn table(&self) -> Table {
        let columns = self.columns.iter().enumerate().map(|(i, name)| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(i));
            let numbers = !self.rows.is_empty()
                && cells.all(|cell| *cell == "-" || cell.parse::<u64>().is_ok());
            (
                printable(name.as_bytes()).to_uppercase(),
                if numbers { Align::Right } else { Align::Left },
            )
        });
        let mut table = Table::new(columns);
        for row in &self.rows {
            table.push(row.iter().map(|cell| printable(cell.as_bytes())).collect());
        }
        table
    }

    /// Each row keyed by the header.
    pub fn objects(&self) -> Vec<Object<'_>> {
        self.rows
            .iter()
            .map(|row| Object {
                columns: &self.columns,
                row,
            })
            .collect()
    }
}

/// A row keyed by the header; what looks like a number is one.
pub struct Object<'a> {
    columns: &'a [&'a str],
    row: &'a [&'a str],
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, cell) in self.columns.iter().zip(self.row) {
            match cell.parse::<u64>() {
                Ok(number) => map.serialize_entry(name, &number)?,
                Err(_) => map.serialize_entry(name, cell)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "owner\tbytes\tstate\nworker-1\t4096\tlive\n/old\t17\tgone\n";

    #[test]
    fn columns_line_up_with_numbers_to_the_right() {
        let table = Rows::parse(TEXT).table().text();
        assert_eq!(
            table,
            "OWNER     BYTES  STATE\nworker-1   4096  live\n/old         17  gone\n"
        );
    }

    #[test]
    fn rows_as_json_are_keyed_by_the_header() {
        let json = serde_json::to_string(&Rows::parse(TEXT).objects()).expect("JSON");
        assert!(
            json.starts_with(r#"[{"owner":"worker-1","bytes":4096,"state":"live"},"#),
            "{json}"
        );
    }

    #[test]
    fn no_rows_are_an_empty_table() {
        assert_eq!(
            Rows::parse("owner\tbytes\n").table().text(),
            "OWNER  BYTES\n"
        );
        assert_eq!(
            serde_json::to_string(&Rows::parse("").objects()).expect("JSON"),
            "[]"
        );
    }
}
