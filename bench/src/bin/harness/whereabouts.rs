//! Where a row's instructions are: by function, also those that are inlined, with reads, writes and
//! locked instructions.
//!
//! memcg's images are built with line tables for this, which changes no instruction; `addr2line`
//! tells the functions inlined at an address, `objdump` which instructions are locked. Of a peer
//! only the functions that were left as such are known.

use crate::callgrind::{Cost, profile};
use crate::layout::lay_out;
use crate::options::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Functions that cost less, by operation, are added up in one line.
const LEAST: f64 = 0.5;

/// One table for each row and peer that is asked for.
pub fn show(options: &Options, rows: &[&str], peers: &[&str]) -> Result<(), String> {
    for &peer in peers {
        let mut image = options.image(peer);
        if let Some(lined) = options.lined.as_ref().map(|dir| dir.join(peer))
            && lined.exists()
        {
            image = lined;
        }
        for row in rows {
            let profile = profile(options, &image, row, true)?;
            if profile.is_empty() {
                continue;
            }
            let addresses: Vec<u64> = profile.keys().copied().collect();
            let names = inlined(&image, &addresses).unwrap_or_default();
            let locked = locked(&image).unwrap_or_default();
            let mut by_name: BTreeMap<String, (Cost, f64)> = BTreeMap::new();
            let mut by_room: BTreeMap<String, (Cost, f64)> = BTreeMap::new();
            for (address, (symbol, cost)) in &profile {
                let name = names
                    .get(address)
                    .cloned()
                    .unwrap_or_else(|| without_hash(symbol));
                let is_locked = locked.contains(address);
                let room = name.split_once('/').map_or("outside", |(room, _)| room);
                for entry in [
                    by_room.entry(room.to_owned()).or_default(),
                    by_name.entry(name).or_default(),
                ] {
                    entry.0 = entry.0.plus(*cost);
                    entry.1 += if is_locked { cost.instructions } else { 0.0 };
                }
            }
            if by_room.len() > 1 {
                print!("{}", table(&format!("{row}, {peer}, by room"), by_room));
            }
            print!("{}", table(&format!("{row}, {peer}"), by_name));
        }
    }
    Ok(())
}

fn table(title: &str, by_name: BTreeMap<String, (Cost, f64)>) -> String {
    let mut all: Vec<(String, (Cost, f64))> = by_name.into_iter().collect();
    all.sort_by(|a, b| b.1.0.instructions.total_cmp(&a.1.0.instructions));
    let line = |name: &str, (cost, locked): (Cost, f64)| {
        let mut line = vec![name.to_owned()];
        let numbers = [cost.instructions, cost.reads, cost.writes, locked];
        line.extend(numbers.map(|n| format!("{n:.1}")));
        line
    };
    let sum = |of: &[(String, (Cost, f64))]| {
        of.iter().fold((Cost::default(), 0.0), |sum, (_, one)| {
            (sum.0.plus(one.0), sum.1 + one.1)
        })
    };
    let split = all.partition_point(|(_, (cost, _))| cost.instructions >= LEAST);
    let (large, small) = all.split_at(split);
    let mut rows = vec![
        ["function", "instructions", "reads", "writes", "locked"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(large.iter().map(|(name, costs)| line(name, *costs)));
    if !small.is_empty() {
        rows.push(line(&format!("{} others", small.len()), sum(small)));
    }
    rows.push(line("all", sum(&all)));
    let mut out = String::new();
    lay_out(&mut out, false, title, &rows);
    out
}

/// For each address the innermost function that is of this repository, if the image has line
/// tables.
fn inlined(image: &Path, addresses: &[u64]) -> Option<BTreeMap<u64, String>> {
    let mut child = Command::new("addr2line")
        .args(["-a", "-f", "-i", "-C", "-e"])
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut questions = child.stdin.take()?;
    let text: String = addresses.iter().map(|a| format!("{a:#x}\n")).collect();
    // It answers as it reads: both at once, or a full pipe stops both.
    let asking = std::thread::spawn(move || questions.write_all(text.as_bytes()));
    let output = child.wait_with_output().ok()?;
    let _ = asking.join();
    Some(read_frames(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads `ADDRESS` and then pairs of lines, function and place, innermost first.
fn read_frames(text: &str) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let (mut at, mut function) = (0, None::<&str>);
    for line in text.lines() {
        if let Some(address) = line.strip_prefix("0x") {
            at = u64::from_str_radix(address, 16).unwrap_or(0);
            function = None;
        } else if let Some(name) = function.take() {
            let file = line.split(':').next().unwrap_or("");
            let file = ["crates/", "bench/src/"]
                .iter()
                .find_map(|folder| file.rsplit_once(folder))
                .map(|(_, file)| file.replace("memcg/src/", ""));
            if let Some(file) = file {
                found
                    .entry(at)
                    .or_insert_with(|| format!("{file} {}", last_part(name)));
            }
        } else {
            function = Some(line);
        }
    }
    found
}

/// The last part of a path of Rust, without arguments of types.
fn last_part(name: &str) -> String {
    let name = without_hash(name);
    let plain = name.split('<').next().filter(|n| !n.is_empty());
    plain
        .unwrap_or(&name)
        .trim_end_matches("::")
        .rsplit("::")
        .next()
        .unwrap_or(&name)
        .to_owned()
}

/// A symbol without the hash rustc ends it with.
fn without_hash(symbol: &str) -> String {
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 => name.to_owned(),
        _ => symbol.to_owned(),
    }
}

/// The addresses of locked instructions.
fn locked(image: &Path) -> Option<BTreeSet<u64>> {
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(image)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| {
        let (address, instruction) = line.trim_start().split_once(":\t")?;
        let is = instruction.starts_with("lock ")
            || instruction.starts_with("mfence")
            || instruction.starts_with("xchg ") && instruction.contains('(');
        is.then(|| u64::from_str_radix(address, 16).ok())?
    });
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_function_of_the_repository_is_named() {
        let text = "0x00000010\ncore::sync::load\n/rustc/x/library/core/src/atomic.rs:1\nmemcg::kmem::slab::Slab::take_for\n/x/crates/memcg/src/kmem/slab.rs:7\nmemcg::kmem::heap_hit::alloc\n/x/crates/memcg/src/kmem/heap_hit.rs:9 (discriminator 2)\n0x00000020\n??\n??:0\n";
        let found = read_frames(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&0x10], "kmem/slab.rs take_for");
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
    }
}
