//! Runs every image and program in rounds, and says what came out.
//!
//! Each run is a process of its own; a round runs every peer of a row one after the other, in
//! another order each time, so that what the machine does besides, and what the peer before left of
//! it, falls on all alike. Ratios are made within a round.

mod callgrind;
mod instructions;
mod json;
mod layout;
mod machine;
mod options;
mod page;
mod peers;
mod programs;
mod report;
mod run;
mod stats;
mod targets;
mod whereabouts;

use memcg_bench::random::Random;
use memcg_bench::rows::ROWS;
use options::{Mode, Options};
use peers::{IMAGES, POOLS, Peer};
use report::Report;
use stats::Samples;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let outcome = match options.mode {
        Mode::Measure => measure(&options),
        Mode::Instructions => instructions::show(&options),
        Mode::Gate => instructions::gate(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// One thing that is run again and again.
enum Job<'a> {
    Row(&'static memcg_bench::rows::Row, &'a Peer),
    Program(&'static programs::Program, &'static programs::Below),
}

impl Job<'_> {
    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Job::Row(row, peer) => (row.name, peer.name),
            Job::Program(program, below) => (program.name, below.name),
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let there = |peer: &&Peer| options.wants_peer(peer.name) && options.image(peer.name).exists();
    let images: Vec<&Peer> = IMAGES.iter().filter(there).collect();
    let pools: Vec<&Peer> = POOLS.iter().filter(there).collect();
    let missing: Vec<&str> = IMAGES
        .iter()
        .chain(POOLS)
        .map(|peer| peer.name)
        .filter(|name| !options.image(name).exists())
        .collect();
    let scratch = programs::prepare(options)?;
    let mut groups: Vec<Vec<Job>> = Vec::new();
    for row in ROWS
        .iter()
        .filter(|row| row.of == row.name && options.wants_row(row))
    {
        let peers = images
            .iter()
            .filter(|peer| !row.own || peer.name == "memcg")
            .chain(pools.iter().filter(|_| row.pools));
        groups.push(peers.map(|peer| Job::Row(row, peer)).collect());
    }
    for program in programs::ALL
        .iter()
        .filter(|p| options.wants(p.name, "programs"))
    {
        if let Some(why) = (program.missing)(&scratch) {
            eprintln!("no {}: {why}", program.name);
            continue;
        }
        let below = programs::BELOW
            .iter()
            .filter(|b| b.library(options).is_some() && options.wants_peer(b.name));
        groups.push(below.map(|below| Job::Program(program, below)).collect());
    }
    let total = options.rounds * groups.iter().map(Vec::len).sum::<usize>();
    if total == 0 {
        return Err(String::from(
            "nothing to run: no row of that name, or no image",
        ));
    }
    let mut samples = Samples::default();
    let mut failures: Vec<String> = Vec::new();
    let mut done = 0;
    let mut random = Random::new(1);
    for round in 0..options.rounds {
        for jobs in &groups {
            for job in in_any_order(jobs, &mut random) {
                let (row, peer) = job.names();
                let left = if done == 0 {
                    0.0
                } else {
                    started.elapsed().as_secs_f64() / done as f64 * (total - done) as f64
                };
                eprint!(
                    "\r\x1b[Kround {}/{}: {row} {peer}, {left:.0} s left",
                    round + 1,
                    options.rounds
                );
                let sample = match job {
                    Job::Row(row, peer) => run::image(options, row, peer.name),
                    Job::Program(program, below) => {
                        programs::run(options, &scratch, program, below)
                    }
                };
                match sample {
                    Ok(sample) => samples.add(row, peer, sample),
                    Err(why) => {
                        let why = format!("{row} {peer}: {why}");
                        if !failures.contains(&why) {
                            failures.push(why);
                        }
                        samples.skip(row, peer);
                    }
                }
                done += 1;
            }
        }
    }
    eprint!("\r\x1b[K");
    let names: Vec<&str> = images.iter().map(|peer| peer.name).collect();
    samples.less("tenants", "tenants-scope", targets::NET, &names);
    let report = Report {
        options,
        samples: &samples,
        missing: &missing,
        failures: &failures,
        seconds: started.elapsed().as_secs_f64(),
    };
    print!(
        "{}",
        if options.json {
            json::text(&report)
        } else {
            page::text(&report, false)
        }
    );
    if options.save {
        let kept = page::save(&report)?;
        eprintln!("kept in {}", kept.display());
    }
    Ok(())
}

/// All of them, shuffled.
fn in_any_order<'a, T>(all: &'a [T], random: &mut Random) -> Vec<&'a T> {
    let mut order: Vec<&T> = all.iter().collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_runs_once_a_round_and_follows_another_one_in_each() {
        let all: Vec<usize> = (0..12).collect();
        let mut random = Random::new(1);
        let mut before_first = Vec::new();
        for _ in 0..31 {
            let order: Vec<usize> = in_any_order(&all, &mut random)
                .into_iter()
                .copied()
                .collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, all);
            let at = order.iter().position(|&i| i == 0).unwrap();
            before_first.push(at.checked_sub(1).map(|at| order[at]));
        }
        before_first.sort_unstable();
        before_first.dedup();
        assert!(before_first.len() > 6, "{before_first:?}");
    }
}
