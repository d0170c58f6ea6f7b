//! Instructions of the hit paths, counted by callgrind: the same on every run, so they can be a gate.
//!
//! Each row is run with two numbers of operations; the difference of the totals, by operation, is what is told, so start
//! and end of the process do not count. callgrind replaces no allocator.

use crate::json::quote;
use crate::layout::lay_out;
use crate::options::Options;
use crate::peers::IMAGES;
use std::process::{Command, Stdio};

const FEW: u64 = 51_200;
const MANY: u64 = 153_600;
/// Rows that are counted: of all images, and of memcg alone.
const ROWS: &[&str] = &["pair-64", "pair-1024", "batch-64", "tenants-turns"];
const OWN: &[&str] = &["charge-1", "scope"];
/// Images whose numbers are the gate's.
const GATED: &[&str] = &["memcg", "memcg-off"];
/// How much more fails.
const SLACK: f64 = 1.02;

/// Prints the counts of all images.
pub fn show(options: &Options) -> Result<(), String> {
    let mut rows = vec![vec![String::from("instructions")]];
    rows[0].extend(ROWS.iter().chain(OWN).map(|&row| row.to_owned()));
    for peer in IMAGES
        .iter()
        .filter(|p| options.wants_peer(p.name) && options.image(p.name).exists())
    {
        eprint!("\r\x1b[Kcounting {}", peer.name);
        let mut row = vec![peer.name.to_owned()];
        for name in ROWS {
            row.push(
                count(options, peer.name, name)
                    .map_or_else(|_| "-".to_owned(), |n| format!("{n:.1}")),
            );
        }
        for name in OWN.iter().filter(|_| peer.name == "memcg") {
            row.push(
                count(options, peer.name, name)
                    .map_or_else(|_| "-".to_owned(), |n| format!("{n:.1}")),
            );
        }
        rows.push(row);
    }
    eprint!("\r\x1b[K");
    let mut out = String::new();
    lay_out(
        &mut out,
        false,
        "Instructions an operation (callgrind)",
        &rows,
    );
    print!("{out}");
    Ok(())
}

/// Compares memcg's counts with those kept, or keeps them.
pub fn gate(options: &Options) -> Result<(), String> {
    let path = options.bench.join("instructions.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let (mut lines, mut worse) = (Vec::new(), Vec::new());
    for peer in GATED {
        let own = if *peer == "memcg" { OWN } else { &[] };
        for row in ROWS.iter().chain(own) {
            let name = format!("{peer} {row}");
            let now = count(options, peer, row)?;
            lines.push(format!("  {}: {now:.2}", quote(&name)));
            if options.write {
                println!("{name}: {now:.2}");
                continue;
            }
            let before = find(&kept, &name)
                .ok_or_else(|| format!("{name} is not in {}; --gate-write", path.display()))?;
            let verdict = if now > before * SLACK { "WORSE" } else { "ok" };
            println!("{name}: {now:.2}, kept {before:.2}, {verdict}");
            if verdict != "ok" {
                worse.push(name);
            }
        }
    }
    if options.write {
        let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
        return std::fs::write(&path, text)
            .map_err(|e| format!("cannot write {}: {e}", path.display()));
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than 2 % more instructions: {}",
        worse.join(", ")
    ))
}

/// The number under a name in the kept file, which this module wrote.
fn find(kept: &str, name: &str) -> Option<f64> {
    let rest = kept.split_once(&quote(name))?.1;
    rest.trim_start_matches([':', ' '])
        .split([',', '\n', '}'])
        .next()?
        .trim()
        .parse()
        .ok()
}

/// Instructions an operation.
fn count(options: &Options, peer: &str, row: &str) -> Result<f64, String> {
    let (few, many) = (
        total(options, peer, row, FEW)?,
        total(options, peer, row, MANY)?,
    );
    Ok((many - few) / (MANY - FEW) as f64)
}

fn total(options: &Options, peer: &str, row: &str, ops: u64) -> Result<f64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(options.image(peer))
        .arg(row)
        .arg(ops.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run valgrind: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{peer} {row} under valgrind: {}", output.status));
    }
    said.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .ok_or_else(|| {
            format!(
                "{peer} {row} under valgrind: {}",
                said.lines().last().unwrap_or("nothing")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn kept_numbers_are_found() {
        let kept = "{\n  \"memcg pair-64\": 41.00,\n  \"memcg pair-640\": 7\n}\n";
        assert_eq!(find(kept, "memcg pair-64"), Some(41.0));
        assert_eq!(find(kept, "memcg pair-640"), Some(7.0));
        assert_eq!(find(kept, "memcg scope"), None);
    }
}
