//! Reading a snapshot's text.
//!
//! Columns are found by name: an engine of another version may have more of them, in another order.

use super::groups::{Cell, Group, Outside, Snapshot};
use crate::client::escape::{printable, unescape};
use std::collections::HashMap;
use std::str::FromStr;

/// Reads a snapshot; the error says which part is missing or wrong.
pub fn parse(text: &str) -> Result<Snapshot, String> {
    let mut lines = text.lines();
    let head = Head::parse(lines.next().ok_or("it is empty")?);
    let columns: Vec<&str> = lines
        .next()
        .ok_or("it has no columns")?
        .split('\t')
        .collect();
    let groups = lines
        .filter(|line| !line.is_empty())
        .map(|line| group(&columns, line))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Snapshot {
        pid: head.number("pid")?,
        comm: head.word("comm")?,
        uptime_ms: head.number("uptime_ms")?,
        rss: head.number("rss")?,
        charged: head.number("charged")?,
        coverage: head.number("coverage")?,
        outside: head.outside(),
        accounting: head.word("accounting")?,
        groups,
    })
}

/// The `key=value` words of the first line.
struct Head<'a>(HashMap<&'a str, &'a str>);

impl<'a> Head<'a> {
    fn parse(line: &'a str) -> Head<'a> {
        Head(
            line.split(' ')
                .filter_map(|word| word.split_once('='))
                .collect(),
        )
    }

    fn value(&self, key: &str) -> Result<&'a str, String> {
        self.0
            .get(key)
            .copied()
            .ok_or_else(|| format!("{key}= is missing"))
    }

    fn number<N: FromStr>(&self, key: &str) -> Result<N, String> {
        let value = self.value(key)?;
        value
            .parse()
            .map_err(|_| format!("{key}={value} is no number"))
    }

    fn outside(&self) -> Option<Outside> {
        Some(Outside {
            engine: self.number("engine").ok()?,
            elsewhere: self.number("elsewhere").ok()?,
            file: self.number("rss_file").ok()?,
            shared: self.number("rss_shared").ok()?,
        })
    }

    fn word(&self, key: &str) -> Result<String, String> {
        let value = self.value(key)?;
        let bytes = unescape(value).map_err(|e| format!("{key}={value}: {e}"))?;
        Ok(printable(&bytes))
    }
}

fn group(columns: &[&str], line: &str) -> Result<Group, String> {
    let values: Vec<&str> = line.split('\t').collect();
    if values.len() != columns.len() {
        return Err(format!(
            "a row has {} columns instead of {}",
            values.len(),
            columns.len()
        ));
    }
    let mut path = None;
    let mut cells = Vec::with_capacity(columns.len());
    for (name, value) in columns.iter().zip(values) {
        match *name {
            "path" => path = Some(unescape(value).map_err(|e| format!("path {value}: {e}"))?),
            name => cells.push((name.to_owned(), cell(value))),
        }
    }
    let find = |name: &str| cells.iter().find(|(n, _)| n == name).map(|(_, cell)| cell);
    let number = |name: &str| find(name).and_then(Cell::number);
    Ok(Group {
        path: path.ok_or("the column path is missing")?,
        current: number("current").ok_or("the column current is missing")?,
        peak: number("peak"),
        max: find("max").cloned(),
        high: find("high").cloned(),
        tasks: number("tasks"),
        inherited: number("inherited"),
        events: events(&cells),
        cells,
    })
}

fn cell(value: &str) -> Cell {
    match value.parse() {
        Ok(number) => Cell::Number(number),
        Err(_) if value == "max" => Cell::Max,
        Err(_) => Cell::Text(value.to_owned()),
    }
}

/// The columns `ev_…` that are not zero, the gravest last in the engine's order.
fn events(cells: &[(String, Cell)]) -> Vec<(String, u64)> {
    cells
        .iter()
        .filter_map(|(name, cell)| Some((name.strip_prefix("ev_")?.to_owned(), cell.number()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const TEXT: &str = "\
pid=42 comm=my%20app uptime_ms=1500 rss=2097152 charged=1048576 coverage=50.0 accounting=on
path\tcurrent\tpeak\tmax\thigh\ttasks\tinherited\tev_low\tev_high\tev_max\tev_oom\tev_oom_kill
/\t1048576\t2097152\tmax\tmax\t1\t0\t0\t0\t0\t0\t0
/b%20c\t4096\t8192\t16384\tmax\t2\t512\t0\t1\t3\t0\t0
";

    #[test]
    fn a_snapshot_reads_as_it_was_written() {
        let snapshot = parse(TEXT).expect("a snapshot");
        assert_eq!(
            (snapshot.pid, snapshot.comm.as_str(), snapshot.uptime_ms),
            (42, "my app", 1500)
        );
        assert_eq!(
            (snapshot.rss, snapshot.charged, snapshot.coverage),
            (2 << 20, 1 << 20, 50.0)
        );
        assert_eq!(snapshot.accounting, "on");
        let group = &snapshot.groups[1];
        assert_eq!(group.path, b"/b c");
        assert_eq!(
            (group.current, group.peak, group.tasks, group.inherited),
            (4096, Some(8192), Some(2), Some(512))
        );
        assert_eq!(
            (&group.max, &group.high),
            (&Some(Cell::Number(16384)), &Some(Cell::Max))
        );
        assert_eq!(
            group.events,
            [("high".to_owned(), 1), ("max".to_owned(), 3)]
        );
    }

    #[test]
    fn added_and_reordered_columns_and_keys_do_no_harm() {
        let text = "\
new=1 accounting=off coverage=0.0 charged=0 rss=1 uptime_ms=1 comm=x pid=1 flag
current\tcolour\tpath
7\tblue\t/
";
        let snapshot = parse(text).expect("a snapshot");
        let group = &snapshot.groups[0];
        assert_eq!(
            (group.path.as_slice(), group.current, group.peak),
            (&b"/"[..], 7, None)
        );
        assert_eq!(
            group.cells[1],
            ("colour".to_owned(), Cell::Text("blue".to_owned()))
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let cases = [
            (String::new(), "it is empty"),
            ("pid=1".into(), "it has no columns"),
            (TEXT.replace("pid=42", "pid=x"), "pid=x is no number"),
            (TEXT.replace("rss=2097152 ", ""), "rss= is missing"),
            (
                TEXT.replace("\tcurrent", "\tpresent"),
                "the column current is missing",
            ),
            (
                TEXT.replace("/b%20c", "/b%2"),
                "path /b%2: a % without two hexadecimal digits",
            ),
            (
                TEXT.replace("/b%20c\t", "/b%20c\t0\t"),
                "a row has 13 columns instead of 12",
            ),
        ];
        for (text, reason) in cases {
            assert_eq!(parse(&text).expect_err("it is broken"), reason);
        }
    }
}
