//! The simulator: histories made of a seed, taken by threads that are all one, and an auditor with books of its own.
//!
//! A history is steps over groups, tasks, scopes, objects of the heap and of caches, a list with its shrinker, shrinkers that lie and
//! meddle, reservations, limits and what is done at them, moves, new owners, ends of groups and of threads, forks, with calls for memory
//! that fail on purpose. Nothing in it depends on the machine's time or on another thread, so it is the same on every run, and one that
//! fails can be made short (`shrink`). docs/internals/sim.md has all of it.
//! After every few steps the auditor holds the engine against the books, in which every thing is noted with its owner and from which
//! every sum is made anew (`books`, `audit`); in the end everything is freed, and nothing is left (`end`).
//!
//! Of one that failed the steps are in `kept.txt`, and every run begins with those. `cargo xtask sim` runs histories of ever new seeds.
//! As TigerBeetle does it: what cannot be made to happen again cannot be understood.

mod asked;
mod audit;
mod books;
mod end;
mod filters;
mod given;
mod groups;
mod holders;
mod limits;
mod pools;
mod rules;
mod shrink;
mod stage;
mod step;
mod tasks;
mod things;
mod world;

use super::own_process;
use crate::os::clock::own;
use crate::os::fault;
use shrink::shrink;
use stage::Planted;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};
use step::History;
use world::World;

/// Histories that failed once, each begun by a line that says why.
const KEPT: &str = include_str!("kept.txt");

/// Steps of a history of the long form, at most.
const LONG: u64 = 1500;

fn run(history: &History, planted: Planted) {
    let mut world = World::new(history, planted);
    for (at, &step) in history.steps.iter().enumerate() {
        world.take(step);
        if (at + 1) % history.every == 0 {
            world.audit();
        }
    }
    world.finish(history.steps.len() as u64);
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on the calling thread's panics are not reported: they are answers.
fn be_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                return say(panic);
            }
            let place = panic
                .location()
                .map(|at| format!("{}:{}", at.file(), at.line()));
            let _ = PLACE.try_with(|known| known.replace(place.unwrap_or_default()));
        }));
    });
    QUIET.set(true);
}

/// Why a history fails, if it does. On a thread of its own, whose locks and pins end with it.
fn failure(history: &History, planted: Planted) -> Option<String> {
    let history = history.clone();
    let thread = std::thread::spawn(move || {
        be_quiet();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&history, planted)));
        fault::follow(None);
        own::set(None);
        outcome.err().map(|why| {
            let text = why.downcast_ref::<String>().cloned();
            let text = text.or_else(|| why.downcast_ref::<&str>().map(|s| s.to_string()));
            // The world is in an unknown state: nothing of it is dropped.
            core::mem::forget(why);
            format!("{} ({})", text.unwrap_or_default(), PLACE.take())
        })
    });
    thread
        .join()
        .unwrap_or_else(|_| Some("the thread ended".into()))
}

/// How many steps the history of a seed has.
fn steps_of(seed: u64) -> usize {
    (50 + seed.wrapping_mul(0x9e37_79b9) % LONG) as usize
}

/// Runs the history of a seed; panics with the seed and with the steps that are needed, if it fails.
fn run_seed(seed: u64, steps: usize) {
    let history = History::of_seed(seed, steps);
    let Some(why) = failure(&history, Planted::Nothing) else {
        return;
    };
    println!("seed {seed} fails: {why}\nmaking it short ...");
    let short = shrink(&history, 1500, |h| failure(h, Planted::Nothing).is_some());
    let why = failure(&short, Planted::Nothing).unwrap_or(why);
    println!("to be kept, in proof/sim/kept.txt:\n\n# seed {seed}: {why}\n{short}\n");
    panic!("seed {seed}: {why}");
}

/// The histories of a text: paragraphs, each with a line of comment at its head.
fn kept(text: &str) -> Vec<(&str, History)> {
    let paragraphs = text
        .split("\n\n")
        .map(str::trim)
        .filter(|p| p.contains("\nworld "));
    paragraphs
        .map(|paragraph| {
            let (why, history) = paragraph.split_once("\nworld ").unwrap_or_default();
            let history = History::of_text(&format!("world {history}"));
            (why, history.unwrap_or_else(|| panic!("{why}: no history")))
        })
        .collect()
}

#[test]
fn histories_that_failed_once_do_not_fail_again() {
    for (why, history) in kept(KEPT) {
        if let Some(again) = failure(&history, Planted::Nothing) {
            panic!("{why}\nfails again: {again}");
        }
    }
}

#[test]
fn whatever_happens_the_books_are_what_the_auditor_s_are() {
    // Seeds nobody has tried are the affair of `cargo xtask sim`: a suite that is right today is right tomorrow.
    for seed in 0..17 {
        run_seed(seed, 200);
    }
}

#[test]
fn the_same_seed_fails_in_the_same_way_each_time() {
    let mut nr = 0;
    for seed in 0..8 {
        let why = || failure(&History::of_seed(seed, 200), Planted::ShortUncharge);
        let first = why();
        nr += u32::from(first.is_some());
        assert_eq!(first, why());
    }
    assert!(nr > 0, "none fails");
}

/// The auditor finds `planted`, and not more than `most` steps are needed to show it.
fn is_found(planted: Planted, most: usize) {
    let found = (0..40).find_map(|seed| {
        let history = History::of_seed(seed, 400);
        failure(&history, planted).map(|_| history)
    });
    let history = found.expect("no seed finds what was planted");
    let short = shrink(&history, 1500, |h| failure(h, planted).is_some());
    println!(
        "{planted:?}: {}\n{short}",
        failure(&short, planted).unwrap_or_default()
    );
    assert!(short.steps.len() <= most, "{} steps", short.steps.len());
    assert_eq!(failure(&short, Planted::Nothing), None);
}

#[test]
fn a_charge_given_back_short_is_found() {
    is_found(Planted::ShortUncharge, 60);
}

#[test]
fn what_a_group_s_end_leaves_in_its_list_is_found() {
    is_found(Planted::ListLeftBehind, 12);
}

#[test]
fn what_reclaim_loses_is_found() {
    is_found(Planted::LostByReclaim, 30);
}

#[test]
fn what_is_given_to_nobody_is_found() {
    is_found(Planted::GivenToNobody, 20);
}

#[test]
fn a_victim_that_is_not_the_right_one_is_found() {
    is_found(Planted::ScoreUnheard, 30);
}

const FOR_LONG: &str = "proof::sim::for_as_long_as_is_asked";
/// Histories of one process: what an engine maps stays mapped.
const BATCH: u64 = 100;

/// The history of a seed that ends its process, made short by running it in others.
fn shorten_apart(seed: &str) {
    let Ok(nr) = seed.parse::<u64>() else { return };
    println!("making it short, a process each time ...");
    let ends = |h: &History| {
        let output = own_process::again_ignored(FOR_LONG, &h.to_string());
        !output.status.success()
    };
    let short = shrink(&History::of_seed(nr, steps_of(nr)), 600, ends);
    println!("to be kept, in proof/sim/kept.txt:\n\n# seed {seed}: the process ended\n{short}\n");
}

/// By `cargo xtask sim`: MEMCG_SIM_SECONDS, and MEMCG_SIM_SEED where the first seed is given.
#[test]
#[ignore = "runs for minutes: cargo xtask sim"]
fn for_as_long_as_is_asked() {
    if let Some(argument) = own_process::argument() {
        if let Some(history) = History::of_text(&argument) {
            let why = failure(&history, Planted::Nothing);
            assert!(why.is_none(), "{}", why.unwrap_or_default());
            return;
        }
        let first: u64 = argument.parse().expect("a seed or a history");
        for seed in first..first + BATCH {
            println!("\nseed {seed}");
            run_seed(seed, steps_of(seed));
        }
        return;
    }
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seconds = number("MEMCG_SIM_SECONDS").unwrap_or(60);
    let random = || u64::from(crate::os::ids::random() as u32) << 8;
    let first = number("MEMCG_SIM_SEED").unwrap_or_else(random);
    let (begin, mut told) = (Instant::now(), Instant::now());
    let (mut seed, mut steps) = (first, 0);
    println!("sim: {} kept, then from seed {first} on", kept(KEPT).len());
    histories_that_failed_once_do_not_fail_again();
    while begin.elapsed() < Duration::from_secs(seconds) {
        let output = own_process::again_ignored(FOR_LONG, &seed.to_string());
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            let last = text.rsplit_once("\nseed ").map_or("", |(_, last)| last);
            println!("seed {last}");
            print!("{}", String::from_utf8_lossy(&output.stderr));
            if !text.contains("to be kept") {
                shorten_apart(last.split_whitespace().next().unwrap_or_default());
            }
            panic!("{}", output.status);
        }
        steps += (seed..seed + BATCH).map(steps_of).sum::<usize>();
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
}
