//! Instructions of the hit paths, counted by callgrind: the same on every run, so they can be a
//! gate.
//!
//! Counted is the image's own code alone, by operation ([`crate::callgrind`]); callgrind replaces
//! no allocator. The numbers are those of a compiler: with another than the one they were kept
//! with, the gate allows more.

use crate::callgrind::instructions;
use crate::json::quote;
use crate::layout::lay_out;
use crate::machine::said;
use crate::options::Options;
use crate::peers::IMAGES;
use crate::whereabouts;
use memcg_bench::rows;

/// Rows that are counted: of all images, and of memcg alone.
const ROWS: &[&str] = &["pair-64", "pair-1024", "batch-64", "tenants-turns"];
const OWN: &[&str] = &[
    "charge-1",
    "charge-8",
    "scope",
    "scope-8",
    "objects-slub",
    "objects-slab",
    "objects-slub-groups",
    "objects-slab-groups",
];
/// Images whose numbers are the gate's.
const GATED: &[&str] = &["memcg", "memcg-off"];
/// How much more fails, in percent; and with another compiler.
const SLACK: f64 = 2.0;
const SLACK_OF_ANOTHER: f64 = 10.0;
/// The name the compiler is kept under.
const COMPILER: &str = "compiler";

/// Prints the counts of all images, or where those of the named rows are.
pub fn show(options: &Options) -> Result<(), String> {
    let peers: Vec<&str> = IMAGES
        .iter()
        .map(|peer| peer.name)
        .filter(|name| options.wants_peer(name) && options.image(name).exists())
        .collect();
    let named = options.names();
    let counted: Vec<&str> = match &named[..] {
        [] => ROWS.iter().chain(OWN).copied().collect(),
        some => some.to_vec(),
    };
    if options.breakdown {
        let peers: Vec<&str> = peers
            .into_iter()
            .filter(|&peer| peer == "memcg" || options.names_peer(peer))
            .collect();
        return whereabouts::show(options, &counted, &peers);
    }
    let is_own = |name: &str| rows::ROWS.iter().any(|row| row.own && row.name == name);
    let mut rows = vec![vec![String::from("instructions")]];
    rows[0].extend(counted.iter().map(|&row| row.to_owned()));
    for peer in peers {
        eprint!("\r\x1b[Kcounting {peer}");
        let mut row = vec![peer.to_owned()];
        for name in &counted {
            let count = (peer == "memcg" || !is_own(name))
                .then(|| instructions(options, &options.image(peer), name).ok())
                .flatten();
            row.push(count.map_or_else(|| "-".to_owned(), |n| format!("{n:.1}")));
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
    let compiler = said("rustc", &["--version"]);
    let mut lines = vec![format!("  {}: {}", quote(COMPILER), quote(&compiler))];
    let same = kept.contains(&lines[0]);
    let slack = if same { SLACK } else { SLACK_OF_ANOTHER };
    if !same && !options.write {
        println!("kept with another compiler than {compiler}: {slack} % more are allowed");
    }
    let mut worse = Vec::new();
    for peer in GATED {
        let own = if *peer == "memcg" { OWN } else { &[] };
        for row in ROWS.iter().chain(own) {
            let name = format!("{peer} {row}");
            let now = instructions(options, &options.image(peer), row)?;
            lines.push(format!("  {}: {now:.2}", quote(&name)));
            if options.write {
                println!("{name}: {now:.2}");
                continue;
            }
            let before = find(&kept, &name).ok_or_else(|| {
                format!("{name} is not in bench/instructions.json; keep it with `cargo xtask bench --gate-write`")
            })?;
            let more = (now / before - 1.0) * 100.0;
            println!("{name}: {now:.2}, kept {before:.2}, {more:+.1} %");
            if more > slack {
                worse.push(format!("{name} {before:.1} -> {now:.1} ({more:+.1} %)"));
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
        "more than {slack} % more instructions on a hit path: {}. `cargo xtask bench --instructions --where ROW` shows where. \
         If they buy something, run `cargo xtask bench --gate-write` and say in the commit's message what, and why it is worth them",
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
