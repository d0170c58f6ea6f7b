//! How numbers and tables look, on a terminal and in Markdown.

use memcg_bench::rows::Unit;
use std::fmt::Write as _;

/// A number with the unit that suits it.
pub fn show(n: f64, unit: Unit) -> String {
    let (n, suffix) = match unit {
        Unit::Bytes => return format!("{n:.1} B"),
        Unit::Ratio => return format!("{n:.2}"),
        Unit::Peak => (n / 1024.0, "M"),
        _ if n >= 1e6 => (n / 1e6, "ms"),
        _ if n >= 1e4 => (n / 1e3, "us"),
        _ => (n, ""),
    };
    if n >= 100.0 {
        format!("{n:.0}{suffix}")
    } else {
        format!("{n:.1}{suffix}")
    }
}

/// Columns as wide as they need, or a Markdown table.
pub fn lay_out(out: &mut String, markdown: bool, title: &str, rows: &[Vec<String>]) {
    if markdown {
        let _ = writeln!(out, "\n## {title}\n");
        for (i, row) in rows.iter().enumerate() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
            if i == 0 {
                let _ = writeln!(out, "|{}", " --- |".repeat(row.len()));
            }
        }
        return;
    }
    let _ = writeln!(out, "\n{title}");
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|t| t.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, text)| {
            let left = c == 0 || text.contains(' ') && c + 1 == row.len();
            if left {
                format!("{text:<w$}", w = widths[c])
            } else {
                format!("{text:>w$}", w = widths[c])
            }
        });
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
