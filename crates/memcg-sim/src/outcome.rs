//! What comes of a history: nothing, or why it fails; of one that fails, the few steps that are
//! needed.

#![forbid(unsafe_code)]

use crate::shrink::shrink;
use crate::stage::Planted;
use crate::step::History;
use crate::world::World;
use memcg::testing::os::clock::own;
use memcg::testing::os::fault;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Histories that failed once, each begun by a line that says why.
pub(crate) const KEPT: &str = include_str!("kept.txt");

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
pub(crate) fn failure(history: &History, planted: Planted) -> Option<String> {
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
#[must_use]
pub fn steps_of(seed: u64) -> usize {
    (50 + seed.wrapping_mul(0x9e37_79b9) % LONG) as usize
}

/// Runs the first `steps` steps of the history of a seed.
///
/// # Panics
/// When it fails, with the seed; the steps that are needed to make it fail are printed.
pub(crate) fn run_history(seed: u64, steps: usize) {
    let history = History::of_seed(seed, steps);
    let Some(why) = failure(&history, Planted::Nothing) else {
        return;
    };
    println!("seed {seed} fails: {why}\nmaking it short ...");
    let short = shrink(&history, 1500, |h| failure(h, Planted::Nothing).is_some());
    let why = failure(&short, Planted::Nothing).unwrap_or(why);
    println!("to be kept, in crates/memcg-sim/src/kept.txt:\n\n# seed {seed}: {why}\n{short}\n");
    panic!("seed {seed}: {why}");
}

/// The histories of a text: paragraphs, each with a line of comment at its head.
pub(crate) fn kept(text: &str) -> Vec<(&str, History)> {
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

/// Runs the whole history of a seed.
///
/// # Panics
/// When it fails, with the seed; the steps that are needed to make it fail are printed.
pub fn run_seed(seed: u64) {
    run_history(seed, steps_of(seed));
}

/// Runs a history given as text.
///
/// # Errors
/// Why it fails, or that the text is no history.
pub fn run_text(text: &str) -> Result<(), String> {
    let history = History::of_text(text).ok_or("this is no history")?;
    match failure(&history, Planted::Nothing) {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

/// Runs every kept history; answers how many there are.
///
/// # Panics
/// When one fails again.
pub fn run_kept() -> usize {
    let all = kept(KEPT);
    for (why, history) in &all {
        if let Some(again) = failure(history, Planted::Nothing) {
            panic!("{why}\nfails again: {again}");
        }
    }
    all.len()
}

/// The history of a seed as text, without the steps that `fails` does not need, after at most
/// `tries` tries.
#[must_use]
pub fn shorten(seed: u64, tries: usize, fails: impl Fn(&str) -> bool) -> String {
    let whole = History::of_seed(seed, steps_of(seed));
    shrink(&whole, tries, |h| fails(&h.to_string())).to_string()
}
