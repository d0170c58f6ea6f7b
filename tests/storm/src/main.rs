//! `memcg-storm [--seconds N] [--within RATIO]`: noisy neighbours under each policy, on both
//! flavours of tokio's runtime.
//!
//! Rounds alternate: the same load without limits and with them. After each the books must be what
//! they were before it, to the byte. The end is a table: what tenants without limits in the way
//! waited for an answer in either, and the ratio. Exit status 1 if a book was not exact, an answer
//! was wrong, or a ratio is above the one asked for. Nothing may end the process but that.

#![forbid(unsafe_code)]

mod load;
mod request;

use load::{Counts, Flavour, Round, name_of, run};
use memcg::{OomPolicy, root};
use std::process::ExitCode;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const POLICIES: [OomPolicy; 4] = [
    OomPolicy::Default,
    OomPolicy::Debt,
    OomPolicy::Kill,
    // Under it hogs ask at doors alone: Rust's own allocator would end the process.
    OomPolicy::Deny,
];
const FLAVOURS: [Flavour; 2] = [Flavour::CurrentThread, Flavour::MultiThread];
/// A round takes no longer than this: the two that are compared lie close together.
const LONGEST: Duration = Duration::from_secs(3);

struct Options {
    seconds: f64,
    within: Option<f64>,
}

fn options() -> Option<Options> {
    let mut options = Options {
        seconds: 600.0,
        within: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value: f64 = words.next()?.parse().ok().filter(|v| *v > 0.0)?;
        match word.as_str() {
            "--seconds" => options.seconds = value,
            "--within" => options.within = Some(value),
            _ => return None,
        }
    }
    Some(options)
}

/// A policy on a flavour: what was seen without limits, and with them.
struct Row {
    flavour: Flavour,
    policy: OomPolicy,
    samples: [Vec<u32>; 2],
    counts: Counts,
}

impl Row {
    /// The sample at `part` of all, without limits and with them, in µs.
    fn quantile(&mut self, part: f64) -> [u32; 2] {
        self.samples.each_mut().map(|samples| {
            samples.sort_unstable();
            let at = (samples.len() as f64 * part) as usize;
            samples.get(at).or(samples.last()).copied().unwrap_or(0)
        })
    }
}

fn storm(options: &Options) -> Result<bool, String> {
    let top = root().create("storm").map_err(|why| why.to_string())?;
    let mut rows: Vec<Row> = Vec::new();
    for flavour in FLAVOURS {
        for policy in POLICIES {
            rows.push(Row {
                flavour,
                policy,
                samples: [Vec::new(), Vec::new()],
                counts: Counts::default(),
            });
        }
    }
    let nr_rounds = 2.0 * rows.len() as f64;
    let all = Duration::from_secs_f64(options.seconds / nr_rounds);
    let turns = (all.as_secs_f64() / LONGEST.as_secs_f64()).ceil().max(1.0);
    let time = all.div_f64(turns);
    // What the runtimes and the standard library make once is made before books are kept.
    let unseen = &mut Vec::new();
    for row in &rows {
        let round = Round {
            flavour: row.flavour,
            policy: row.policy,
            is_limited: true,
            time: Duration::from_millis(50),
            has_books: false,
        };
        run(&top, &round, unseen)?;
    }
    for turn in 0..turns as usize {
        for row in &mut rows {
            // Each goes first in every second turn.
            for which in [turn % 2, 1 - turn % 2] {
                let round = Round {
                    flavour: row.flavour,
                    policy: row.policy,
                    is_limited: which == 1,
                    time,
                    has_books: true,
                };
                let counts = run(&top, &round, &mut row.samples[which])
                    .map_err(|why| format!("{round}: {why}"))?;
                if which == 1 {
                    row.counts.add(&counts);
                } else if counts.refused + counts.killed > 0 {
                    return Err(format!("{round}: somebody was refused or killed"));
                }
            }
        }
    }
    Ok(report(&mut rows, options.within))
}

/// Prints the table. Whether all ratios are as asked for.
fn report(rows: &mut [Row], within: Option<f64>) -> bool {
    println!(
        "{:<15} {:<8} {:>8} {:>7} {:>7} {:>8} {:>7} {:>6}  hogs: done refused killed",
        "runtime", "policy", "answers", "p50 µs", "limited", "p99 µs", "limited", "ratio"
    );
    let mut is_well = true;
    for row in rows {
        let (half, most) = (row.quantile(0.5), row.quantile(0.99));
        let ratio = f64::from(most[1]) / f64::from(most[0].max(1));
        let answers: usize = row.samples.iter().map(Vec::len).sum();
        let Counts {
            done,
            refused,
            killed,
        } = row.counts;
        println!(
            "{:<15} {:<8} {answers:>8} {:>7} {:>7} {:>8} {:>7} {ratio:>6.2}  {done:>10} {refused:>7} {killed:>6}",
            row.flavour.name(),
            name_of(row.policy),
            half[0],
            half[1],
            most[0],
            most[1],
        );
        is_well &= within.is_none_or(|most| ratio <= most);
    }
    is_well
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("memcg-storm [--seconds N] [--within RATIO]");
        return ExitCode::from(2);
    };
    match storm(&options) {
        Ok(true) => {
            println!("no abort, books exact after every round");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("memcg-storm: neighbours wait longer than asked for");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("memcg-storm: {why}");
            ExitCode::FAILURE
        }
    }
}
