//! The lab: published designs of memory control groups, measured against each other. `memcg lab`
//! runs it.
//!
//! Invariants: every run of every alternative has a process, and so an engine, of its own. All
//! alternatives of an experiment meet the same random numbers. What is counted is the same for the
//! same seed. Depends on: the engine's rooms, through `memcg::testing`; `memcg-dentry`;
//! `memcg-term`. Never: a judgement that is not in the figures.
//!
//! The files, each using those above it:
//!
//! - `cpu_clock`, `random`, `sheet`, `tools`, `design`: what experiments are made of
//! - one file for each experiment, and the list of them here
//! - `results`, `judge`: what came out, and whether that was what was predicted
//! - `runner`: runs, one process after the other
//! - `text`, `json`, `page`, `chart`: how it is told

mod chart;
mod cpu_clock;
mod dead_caches;
mod dentries;
mod design;
mod endings;
mod ids;
mod json;
mod judge;
mod layouts;
mod moves;
mod offline;
mod page;
mod random;
mod results;
mod runner;
mod sheet;
mod text;
mod tools;
mod tracking;

#[cfg(test)]
mod tests;

use design::Experiment;
use memcg_term::failure::{Failure, REFUSED};
use memcg_term::output::{emit, emit_json};
use std::path::PathBuf;
use std::process::ExitCode;
use tools::Setting;

/// All experiments, in the order of what they are about.
const EXPERIMENTS: &[&Experiment] = &[
    &dead_caches::EXPERIMENT,
    &layouts::EXPERIMENT,
    &ids::EXPERIMENT,
    &endings::EXPERIMENT,
    &offline::EXPERIMENT,
    &moves::EXPERIMENT,
    &tracking::EXPERIMENT,
    &dentries::EXPERIMENT,
];

/// `--quick`.
const QUICK: usize = 2_000;

/// What `memcg lab` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg lab                            every experiment; some minutes
  memcg lab --list                     what there is
  memcg lab ids                        one
  memcg lab ids layouts --quick        small, in seconds
  memcg lab --html lab.html            with plots, in one page

Times are CPU times, the median of the runs; what is counted is the same for the same seed.
docs/internals/lab.md says what the experiments do and has their results.")]
pub struct Options {
    /// Experiments; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// List the experiments
    #[arg(long, conflicts_with_all = ["json", "html"])]
    list: bool,
    /// Small and once, to see that it works
    #[arg(long)]
    quick: bool,
    /// Objects, rounds or groups of an experiment [default: 100000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    scale: Option<u32>,
    /// Runs of each alternative [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: Option<u32>,
    /// Of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write a page with plots, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Run one alternative in this process and write its figures
    #[arg(long, hide = true)]
    arm: Option<String>,
}

impl Options {
    fn setting(&self) -> Setting {
        let scale = if self.quick { QUICK } else { 100_000 };
        Setting {
            scale: self.scale.map_or(scale, |scale| scale as usize),
            seed: self.seed,
        }
    }

    fn nr_runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn experiments(&self) -> Result<Vec<&'static Experiment>, Failure> {
        if self.names.is_empty() {
            return Ok(EXPERIMENTS.to_vec());
        }
        let found = self.names.iter().map(|name| {
            let found = EXPERIMENTS.iter().find(|known| known.name == *name);
            found.copied().ok_or_else(|| {
                let names: Vec<&str> = EXPERIMENTS.iter().map(|known| known.name).collect();
                Failure::usage(format_args!(
                    "no such experiment: '{name}': there is {}",
                    names.join(", ")
                ))
            })
        });
        found.collect()
    }
}

/// Runs them.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    let experiments = options.experiments()?;
    if options.list {
        emit(text::list(&experiments))?;
        return Ok(ExitCode::SUCCESS);
    }
    let setting = options.setting();
    if let Some(arm) = &options.arm {
        runner::run_here(&experiments, arm, &setting)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before the work, not after it.
    if let Some(path) = &options.html {
        write(path, "")?;
    }
    let outcome = runner::run_all(&experiments, setting, options.nr_runs())?;
    if let Some(path) = &options.html {
        write(path, &page::page(&outcome))?;
    }
    match options.json {
        true => emit_json(&json::report(&outcome))?,
        false => emit(text::report(&outcome))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &PathBuf, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|why| {
        Failure::new(
            REFUSED,
            format_args!("cannot write: {}: {why}", path.display()),
        )
    })
}
