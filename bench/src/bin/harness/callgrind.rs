//! callgrind: what a row of an image executes, instruction by instruction, without what starts and
//! ends a process.
//!
//! Each row is run with two numbers of operations and the counts are subtracted, address by
//! address. Only the image's own code is kept (peers are linked into it): what the C library
//! executes depends on the machine's processor.

use crate::options::Options;
use memcg_bench::rows::ROWS;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// Operations of the first run, or a fourth of what the row times; the second does three times as
/// many.
const FEW: u64 = 51_200;

/// What an operation executes at one address, or in one function.
#[derive(Default, Clone, Copy)]
pub struct Cost {
    /// Instructions.
    pub instructions: f64,
    /// Reads of memory.
    pub reads: f64,
    /// Writes to memory.
    pub writes: f64,
}

impl Cost {
    /// Both.
    pub fn plus(self, other: Cost) -> Cost {
        Cost {
            instructions: self.instructions + other.instructions,
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
        }
    }
}

/// The costs by address in the image, and the symbol each address is in.
pub type Profile = BTreeMap<u64, (String, Cost)>;

/// What an operation of `row` costs in `image`.
///
/// `accesses`: reads and writes are counted too, which takes twice as long.
pub fn profile(
    options: &Options,
    image: &Path,
    row: &str,
    accesses: bool,
) -> Result<Profile, String> {
    let timed = ROWS.iter().find(|known| known.name == row);
    let count = timed.map_or(FEW, |row| FEW.min(row.ops / 4));
    if count == 0 {
        return Err(format!("{row} has too few operations to count"));
    }
    let few = run(options, image, row, count, accesses)?;
    let mut many = run(options, image, row, 3 * count, accesses)?;
    let ops = (2 * count) as f64;
    for (address, (_, cost)) in &mut many {
        let before = few.get(address).map(|(_, cost)| *cost).unwrap_or_default();
        *cost = Cost {
            instructions: (cost.instructions - before.instructions) / ops,
            reads: (cost.reads - before.reads) / ops,
            writes: (cost.writes - before.writes) / ops,
        };
    }
    many.retain(|_, (_, cost)| cost.instructions != 0.0);
    Ok(many)
}

/// Instructions of an operation in all of the image.
pub fn instructions(options: &Options, image: &Path, row: &str) -> Result<f64, String> {
    let profile = profile(options, image, row, false)?;
    Ok(profile.values().map(|(_, cost)| cost.instructions).sum())
}

fn run(
    options: &Options,
    image: &Path,
    row: &str,
    ops: u64,
    accesses: bool,
) -> Result<Profile, String> {
    let out = options
        .images
        .join(format!("callgrind.{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--dump-instr=yes"])
        .args(accesses.then_some("--cache-sim=yes"))
        .args(["--compress-pos=no", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(image)
        .arg(row)
        .arg(ops.to_string())
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|e| format!("cannot run valgrind: {e}"))?;
    let text = std::fs::read_to_string(&out);
    let _ = std::fs::remove_file(&out);
    let name = image.display();
    if !output.status.success() {
        return Err(format!("{name} {row} under valgrind: {}", output.status));
    }
    let text = text.map_err(|e| format!("{name} {row}: valgrind wrote nothing: {e}"))?;
    Ok(parse(&text, image))
}

/// Reads callgrind's file, written without compression; costs are `ADDRESS LINE Ir Dr Dw …`,
/// trailing zeros left out.
fn parse(text: &str, image: &Path) -> Profile {
    let mut found = Profile::new();
    let (mut ours, mut function, mut of_a_call) = (false, "", false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == image;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            of_a_call = true;
        } else if line.starts_with("0x") {
            // The line after a call is what the callee cost, counted there.
            if std::mem::take(&mut of_a_call) || !ours {
                continue;
            }
            let mut words = line.split_whitespace();
            let address = words
                .next()
                .and_then(|word| u64::from_str_radix(&word[2..], 16).ok());
            let mut count = words.skip(1).map(|word| word.parse().unwrap_or(0.0));
            let mut next = || count.next().unwrap_or(0.0);
            let cost = Cost {
                instructions: next(),
                reads: next(),
                writes: next(),
            };
            if let Some(address) = address {
                let entry = found
                    .entry(address)
                    .or_insert_with(|| (function.to_owned(), Cost::default()));
                entry.1 = entry.1.plus(cost);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_other_objects_are_not_counted() {
        let text = "ob=/lib/c\nfn=f\n0x10 1 9\nob=/an/image\nfn=g\n0x10 7 4 2\ncalls=1 0x30 2\n0x14 8 100\n0x14 8 4 1 1\n0x10 7 1\n";
        let found = parse(text, Path::new("/an/image"));
        let costs: Vec<(u64, f64, f64, f64)> = found
            .iter()
            .map(|(at, (_, c))| (*at, c.instructions, c.reads, c.writes))
            .collect();
        assert_eq!(costs, [(0x10, 5.0, 2.0, 0.0), (0x14, 4.0, 1.0, 1.0)]);
    }
}
