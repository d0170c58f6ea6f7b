//! `memcg owners`: who holds a group's memory, from the file `memory.owners`.

use super::{ask, path_parser, pid_parser};
use crate::client::directory;
use crate::client::escape::printable;
use crate::failure::Failure;
use crate::output;
use crate::table::{Align, Table};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::ffi::OsString;

/// What `memcg owners` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg owners
  memcg owners 4242 /worker --json

Without a PID the only process under memcg is asked.")]
pub struct Options {
    /// The process
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: Option<u32>,
    /// The group
    #[arg(value_name = "PATH", default_value = "/", value_parser = path_parser())]
    path: OsString,
    /// Print JSON: a list of objects
    #[arg(long)]
    json: bool,
}

/// A text of tab-separated rows under a header.
struct Owners<'a> {
    columns: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

/// Shows the owners.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pid = options.pid.map_or_else(directory::only_one, Ok)?;
    let text = ask(pid, "owners", &options.path, &[])?;
    let text = String::from_utf8_lossy(&text);
    let owners = Owners::parse(&text);
    if options.json {
        return output::emit_json(&owners.objects());
    }
    output::emit(owners.table().text())
}

/// The text of `memory.owners` as a table of lines, its header first.
pub fn lines(text: &str) -> Vec<String> {
    Owners::parse(text).table().lines()
}

impl<'a> Owners<'a> {
    fn parse(text: &'a str) -> Owners<'a> {
        let mut rows = text.lines().map(|line| line.split('\t').collect());
        Owners {
            columns: rows.next().unwrap_or_default(),
            rows: rows.collect(),
        }
    }

    /// Columns of numbers only stand right.
    fn table(&self) -> Table {
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

    fn objects(&self) -> Vec<Object<'_>> {
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
struct Object<'a> {
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
    fn owners_line_up_with_numbers_to_the_right() {
        let table = Owners::parse(TEXT).table().text();
        assert_eq!(
            table,
            "OWNER     BYTES  STATE\nworker-1   4096  live\n/old         17  gone\n"
        );
    }

    #[test]
    fn owners_as_json_are_keyed_by_the_header() {
        let json = serde_json::to_string(&Owners::parse(TEXT).objects()).expect("JSON");
        assert!(
            json.starts_with(r#"[{"owner":"worker-1","bytes":4096,"state":"live"},"#),
            "{json}"
        );
    }

    #[test]
    fn no_owners_are_an_empty_table() {
        assert_eq!(
            Owners::parse("owner\tbytes\n").table().text(),
            "OWNER  BYTES\n"
        );
        assert_eq!(
            serde_json::to_string(&Owners::parse("").objects()).expect("JSON"),
            "[]"
        );
    }
}
