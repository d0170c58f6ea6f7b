//! The same as JSON: every run of every row, and what the tables say.

use crate::machine;
use crate::peers::{IMAGES, POOLS, version};
use crate::programs::BELOW;
use crate::report::{Line, Of, Report};
use memcg_bench::rows::Unit;

/// All of it.
pub fn text(report: &Report) -> String {
    let facts: Vec<String> = machine::facts()
        .iter()
        .map(|(name, value)| format!("    {}: {}", quote(name), quote(value)))
        .collect();
    let peers: Vec<String> = IMAGES
        .iter()
        .chain(POOLS)
        .filter(|peer| !report.missing.contains(&peer.name))
        .map(|peer| {
            format!(
                "    {{\"name\": {}, \"package\": {}, \"version\": {}, \"flags\": {}}}",
                quote(peer.name),
                quote(peer.package),
                quote(version(peer.package).unwrap_or("")),
                quote(peer.flags)
            )
        })
        .collect();
    let images: Vec<&str> = IMAGES.iter().map(|p| p.name).collect();
    let books: Vec<&str> = IMAGES.iter().chain(POOLS).map(|p| p.name).collect();
    let below: Vec<&str> = BELOW.iter().map(|b| b.name).collect();
    let mut rows: Vec<String> = Vec::new();
    for (lines, peers) in [
        (report.lines(Of::All), &images),
        (report.lines(Of::Pools), &books),
        (report.lines(Of::Memcg), &images),
        (report.programs(), &below),
    ] {
        rows.extend(lines.iter().map(|line| row(report, line, peers)));
    }
    let failures: Vec<String> = report
        .failures
        .iter()
        .map(|failure| quote(failure))
        .collect();
    format!(
        "{{\n  \"machine\": {{\n{}\n  }},\n  \"memcg\": {},\n  \"rounds\": {},\n  \"peers\": [\n{}\n  ],\n  \"rows\": [\n{}\n  ],\n  \"failures\": [{}]\n}}\n",
        facts.join(",\n"),
        quote(&report.options.memcg),
        report.options.rounds,
        peers.join(",\n"),
        rows.join(",\n"),
        failures.join(", ")
    )
}

fn row(report: &Report, line: &Line, peers: &[&str]) -> String {
    let cells: Vec<String> = peers
        .iter()
        .filter_map(|peer| {
            let spread = report.samples.spread(line.of, peer, line.unit)?;
            let all = |unit: Unit| -> String {
                let numbers = report.samples.numbers(line.of, peer, unit);
                let texts: Vec<String> = numbers
                    .iter()
                    .map(|n| n.map_or("null".to_owned(), |n| format!("{n:.2}")))
                    .collect();
                texts.join(", ")
            };
            let wall = report.samples.spread(line.of, peer, Unit::Wall)?;
            let peak = report.samples.spread(line.of, peer, Unit::Peak)?;
            let value = report.samples.spread(line.of, peer, Unit::Bytes)?;
            Some(format!(
                "      {}: {{\"median\": {:.2}, \"least\": {:.2}, \"most\": {:.2}, \"wall\": {:.2}, \"peak_kib\": {:.0}, \"value\": {:.2}, \"all\": [{}]}}",
                quote(peer),
                spread.median,
                spread.least,
                spread.most,
                wall.median,
                peak.median,
                value.median,
                all(line.unit)
            ))
        })
        .collect();
    let unit = match line.unit {
        Unit::Cpu => "cpu ns",
        Unit::Wall => "wall ns",
        Unit::Bytes => "bytes",
        Unit::Peak => "peak KiB",
        Unit::Value => "ns",
        Unit::Ratio => "ratio",
    };
    format!(
        "    {{\"row\": {}, \"unit\": {}, \"what\": {}, \"peers\": {{\n{}\n    }}}}",
        quote(line.name),
        quote(unit),
        quote(line.what),
        cells.join(",\n")
    )
}

/// A JSON string.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
