//! How the process's engine behaves, and what is to happen over a fork.
//!
//! Invariants: settings are single words that any thread may change at any time.
//! Depends on: the engine.
//! Never: reads the environment; whoever owns the process does.

#![forbid(unsafe_code)]

use crate::engine::{fork, process_engine};
use crate::group::{Event, ROOT};

/// What the owner of the process wants of the engine.
#[derive(Clone, Copy, Default, Debug)]
pub struct Settings {
    /// An inconsistency of the books aborts the process.
    pub strict: bool,
    /// Delays for groups above `high` are paid inside malloc, at most 10 ms a charge.
    pub pay_in_malloc: bool,
    /// The engine makes no thread of its own.
    pub no_thread: bool,
}

/// Notes that an allocator of ours serves the whole process, and how it is to behave: a thread that
/// is to be killed for memory takes the process with it, since a program under this allocator knows
/// nothing of groups.
pub fn serve_whole_process(settings: Settings) {
    if let Some(engine) = process_engine::try_engine() {
        engine.set_installed();
        engine.options.set_strict(settings.strict);
        engine.options.set_pay_in_malloc(settings.pay_in_malloc);
        engine.options.set_no_thread(settings.no_thread);
        engine.options.set_kill_process(true);
    }
}

/// Whether malloc and mapped memory go over a max where nobody wrote the full group's policy, for a
/// program that a refusal would abort.
pub fn set_debt_by_default(on: bool) {
    if let Some(engine) = process_engine::try_engine() {
        engine.options.set_debt_by_default(on);
    }
}

/// Whether a limit has ever refused a charge of this process.
#[must_use]
pub fn has_refused() -> bool {
    process_engine::try_engine()
        .is_some_and(|engine| engine.tree.memcgs.get(ROOT).nr_events(Event::Max, false) > 0)
}

/// Whether the process's charges are counted, by an allocator of ours that serves it.
#[must_use]
pub fn is_serving() -> bool {
    process_engine::try_engine().is_some_and(|engine| {
        engine.is_installed() && engine.accounting() == crate::engine::Accounting::On
    })
}

/// Has `hook` run in the child of every fork, last: by the fork itself, or where the child is first
/// seen to be one.
pub fn set_in_child(hook: fn()) {
    fork::set_in_child(hook);
}

/// Has `work` run on a slow path of some thread, once, `ns` nanoseconds from now or later; instead
/// of what was deferred before.
pub fn defer(ns: u64, work: fn()) {
    fork::defer(ns, work);
}
