//! The engine's books, added up again at the end of a scenario.
//!
//! Invariants: a discrepancy is reported when it stays; while the engine's own thread works, a sum
//! may be between two values.
//! Depends on: the engine's audit, which adds every sum up from its parts.
//! Never: changes a figure.

#![forbid(unsafe_code)]

use crate::world::fault::Fault;
use memcg::root;
use memcg::testing::engine::Accounting;
use memcg::testing::engine::process_engine::engine;
use std::time::{Duration, Instant};

/// How long the engine's own thread may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks whether the books add up.
///
/// # Errors
/// The first sum that does not.
pub fn books(when: &str) -> Result<(), Fault> {
    at_rest(|| {
        let wrong = engine().tree.audit().err();
        wrong.map(|why| format!("the engine's books do not add up {when}: {why}"))
    })
}

/// Looks whether nothing is charged, when everything is freed.
///
/// # Errors
/// How much is left.
pub fn nothing_left() -> Result<(), Fault> {
    if engine().accounting() == Accounting::Broken {
        return Err(Fault::Wrong("the engine's books do not add up".into()));
    }
    at_rest(|| match root().current() {
        0 => None,
        left => Some(format!("all is freed, and {left} bytes are still charged")),
    })
}

/// Looks until nothing is wrong, or the time is over.
fn at_rest(wrong: impl Fn() -> Option<String>) -> Result<(), Fault> {
    let end = Instant::now() + PATIENCE;
    while let Some(why) = wrong() {
        if Instant::now() >= end {
            return Err(Fault::Wrong(why));
        }
        std::thread::sleep(PAUSE);
        memcg::safe_point();
    }
    Ok(())
}
