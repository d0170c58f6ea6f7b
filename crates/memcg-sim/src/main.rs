//! Histories of ever new seeds for as long as is asked, each hundred in a process of its own;
//! `cargo xtask sim` runs this.

#![forbid(unsafe_code)]

use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

const HELP: &str = "\
memcg-sim [--seconds N] [--seed S]

Takes histories of ever new seeds on the engine, each held against an auditor's own books, for N seconds (60). The first
seed is S, or one at random. A history that fails is made short and printed, with its seed; the exit status is then 1.

  memcg-sim --history TEXT    one history, as it was printed
";

/// Histories of one process: what an engine maps stays mapped.
const BATCH: u64 = 100;

/// Tries at making a history short that ends its process.
const TRIES: usize = 600;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        ["--history", text] => {
            end_with_the_first_panic();
            match memcg_sim::run_text(text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("memcg-sim: {why}");
                    ExitCode::FAILURE
                }
            }
        }
        ["--batch", first] => match first.parse::<u64>() {
            Ok(first) => {
                end_with_the_first_panic();
                for seed in first..first + BATCH {
                    println!("\nseed {seed}");
                    memcg_sim::run_seed(seed);
                }
                ExitCode::SUCCESS
            }
            Err(_) => wrong(),
        },
        _ => match options(&words) {
            Some((seconds, seed)) => run(seconds, seed),
            None => wrong(),
        },
    }
}

fn wrong() -> ExitCode {
    eprint!("{HELP}");
    ExitCode::from(2)
}

/// Seconds, and the first seed where one is given.
fn options(words: &[&str]) -> Option<(u64, Option<u64>)> {
    let (mut seconds, mut seed) = (60, None);
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        let value: u64 = value.parse().ok()?;
        match *name {
            "--seconds" => seconds = value,
            "--seed" => seed = Some(value),
            _ => return None,
        }
    }
    Some((seconds, seed))
}

/// A panic of any thread that nobody catches ends the process: other threads may wait for that one.
fn end_with_the_first_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

/// This program once more, with other arguments.
fn again(arguments: [&str; 2]) -> std::io::Result<Output> {
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .output()
}

fn run(seconds: u64, seed: Option<u64>) -> ExitCode {
    let first = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 ^ nanoseconds());
    let (begin, mut told) = (Instant::now(), Instant::now());
    println!(
        "sim: {} kept, then from seed {first} on",
        memcg_sim::run_kept()
    );
    let (mut seed, mut steps) = (first, 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        let output = match again(["--batch", &seed.to_string()]) {
            Ok(output) => output,
            Err(e) => {
                eprintln!("memcg-sim: cannot run itself: {e}");
                return ExitCode::FAILURE;
            }
        };
        if !output.status.success() {
            report(&output);
            return ExitCode::FAILURE;
        }
        steps += (seed..seed + BATCH).map(memcg_sim::steps_of).sum::<usize>();
        seed += BATCH;
        if told.elapsed() > Duration::from_secs(3) {
            told = Instant::now();
            let seconds = begin.elapsed().as_secs();
            println!(
                "sim: {} histories, {steps} steps, {seconds} s",
                seed - first
            );
        }
    }
    println!(
        "sim: {} histories, {steps} steps, no error; seeds {first} to {}",
        seed - first,
        seed - 1
    );
    ExitCode::SUCCESS
}

/// A number that is another one next time.
fn nanoseconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::from(since.subsec_nanos()))
}

/// What a batch printed of the history that failed; made short here if its process could not do
/// that itself.
fn report(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.rsplit_once("\nseed ").map_or("", |(_, last)| last);
    println!("seed {last}");
    print!("{}", String::from_utf8_lossy(&output.stderr));
    let seed = last.split_whitespace().next().and_then(|s| s.parse().ok());
    if let (false, Some(seed)) = (text.contains("to be kept"), seed) {
        println!("making it short, a process each time ...");
        let short = memcg_sim::shorten(seed, TRIES, |history| {
            again(["--history", history]).is_ok_and(|output| !output.status.success())
        });
        println!(
            "to be kept, in crates/memcg-sim/src/kept.txt:\n\n# seed {seed}: the process ended\n{short}\n"
        );
    }
    println!("sim: {}", output.status);
}
