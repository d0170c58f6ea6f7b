//! What is told to die, and how code that does not yield finds out.
//!
//! Invariants: what is told to die stays told.
//! Depends on: the engine, which knows what the thread runs.
//! Never: allocates, takes a lock.

#![forbid(unsafe_code)]

use crate::engine::process_engine::{engine, known_rec};
use core::fmt;

/// It was told to stop, by `cgroup.kill` or because its group was out of memory. A future that ends
/// with this has been dropped in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OomKilled;

impl fmt::Display for OomKilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("killed for memory")
    }
}

impl core::error::Error for OomKilled {}

/// Asks whether what runs here was told to stop: for loops that do not yield, between two pieces of
/// work.
///
/// It is the task that the thread works for now (a future of [`in_group`](super::in_group),
/// [`Task::enter`](super::Task::enter), a thread's own task), and every future made by
/// [`in_group`](super::in_group) or [`Memcg::scope`](super::Memcg::scope) that the thread is
/// polling now: the innermost, and those around it. A plain guard of
/// [`Memcg::enter`](super::Memcg::enter) notes nothing when it is made, so for it alone the answer
/// is `Ok`.
///
/// # Errors
/// [`OomKilled`] if one of them is to stop: the task has been marked, or the scope's group has been
/// killed since the scope was made. It stays so.
///
/// Cost: some loads, no lock.
///
/// ```
/// use memcg::OomKilled;
///
/// fn sum(rows: &[u64]) -> Result<u64, OomKilled> {
///     let mut sum = 0;
///     for part in rows.chunks(4096) {
///         memcg::checkpoint()?;
///         sum += part.iter().sum::<u64>();
///     }
///     Ok(sum)
/// }
///
/// let group = memcg::root().create("checkpoint").unwrap();
/// let query = group.task("query").unwrap();
/// assert_eq!(query.run(|| sum(&[1, 2])), Ok(3));
/// group.kill();
/// assert_eq!(query.run(|| sum(&[1, 2])), Err(OomKilled));
/// assert_eq!(sum(&[1, 2]), Ok(3), "nobody's");
/// ```
pub fn checkpoint() -> Result<(), OomKilled> {
    match known_rec() {
        Some(rec) if engine().is_to_die(rec) => Err(OomKilled),
        // A thread that has never called us runs nothing of ours.
        Some(_) | None => Ok(()),
    }
}
