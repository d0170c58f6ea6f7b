//! What is said where memory ends the program: who, how much, which limit.
//!
//! Invariants: the line comes before the end.
//! Depends on: `line_text`; `os::say`.
//! Never: a lock, memory.

use super::line_text::Text;
use super::{Engine, Request, process_engine};
use crate::group::exact_charge::Refusal;
use crate::group::objcg::State;
use crate::group::{Event, Memcg, Tag};
use crate::os::{clock, say};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Lines about refusals are at least this far apart, in ns.
const LINES_NS: u64 = 1_000_000_000;

/// When the last one was said, ns of the clock.
static SAID_AT: AtomicU64 = AtomicU64::new(0);

impl Engine {
    /// Ends the program, all its threads: SIGKILL, as the kernel does.
    #[cold]
    pub(super) fn end_process(&self, full: &Memcg, bytes: u64) -> ! {
        full.event(Event::OomKill);
        let mut text = Text::default();
        text.add(b"memcg: out of memory: ");
        self.add_path(&mut text, full.name());
        text.add(b": ");
        text.number(full.counter.usage());
        text.add(b" of ");
        text.number(full.counter.max());
        text.add(b" bytes (memory.max) in use, ");
        text.number(bytes);
        text.add(b" more asked for; held by");
        let mut before = u64::MAX;
        for n in 0..3 {
            let Some((tag, held)) = self.largest_below(full, before) else {
                break;
            };
            text.add(if n == 0 { b" " } else { b", " });
            self.add_path(&mut text, self.tree.objcgs.get(tag).name());
            text.add(b" ");
            text.number(held);
            before = held;
        }
        text.add(b": the program is killed, as its memory.oom.policy says");
        say::line(&[text.as_bytes()]);
        loop {
            // SAFETY: `kill` and `getpid` have no preconditions; the signal goes to this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }

    /// Rust's global allocator is about to answer null, and what asked it most likely ends the
    /// program: says why, once a second at most.
    #[cold]
    pub(super) fn say_null(&self, request: Request, refusal: &Refusal) {
        if !process_engine::is_ours(self) {
            return;
        }
        let now = clock::monotonic_ns();
        let last = SAID_AT.load(Ordering::Relaxed);
        if last != 0 && now.saturating_sub(last) < LINES_NS
            || SAID_AT
                .compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let mut text = self.line_about(request.tag);
        text.add(b": Rust's allocator is refused ");
        text.number(request.bytes);
        text.add(b" bytes: ");
        match refusal.group {
            Some(group) => {
                let full = self.tree.memcgs.get(group);
                self.add_use(&mut text, full, refusal.usage, refusal.max);
                let over = full.debt_max();
                if over != crate::counter::page_counter::UNLIMITED {
                    text.add(b", and may go ");
                    text.number(over);
                    text.add(if full.parent_index().is_none() {
                        b" beyond it (memory.emergency)".as_slice()
                    } else {
                        b" beyond it (memory.debt.max)".as_slice()
                    });
                }
            }
            None => text.add(b"one owner can hold no more"),
        }
        text.add(b". A Rust program ends on that.");
        say::line(&[text.as_bytes()]);
    }

    /// The owner of `full` or below that holds most of those that hold less than `before`.
    fn largest_below(&self, full: &Memcg, before: u64) -> Option<(Tag, u64)> {
        let tree = &self.tree;
        let mut best = None;
        for (tag, owner) in tree.objcgs.each() {
            let held = owner.charged_bytes();
            if owner.state() != State::Free
                && held > best.map_or(0, |(_, most)| most)
                && held < before
                && owner
                    .cell_if_any()
                    .is_some_and(|cell| tree.resolve(cell).group.is_within(full))
            {
                best = Some((tag, held));
            }
        }
        best
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::Flags;
    use crate::group::ROOT;

    #[test]
    fn bytes_that_a_leaky_move_lost_are_held_by_nobody_below_any_group() {
        let engine = Engine::leaked();
        let tree = &engine.tree;
        let (_, rec) = tree.threads.join().unwrap();
        let _pin = tree.threads.epoch.pin(rec);
        let root = tree.memcgs.get(ROOT);
        let group = tree.memcgs.get(tree.create(root, b"a").unwrap());
        let task = tree.new_task(group, b"job", 0).unwrap();
        let request = Request::heap(task, 1 << 20, Flags::NOWAIT);
        engine.charge(rec, request).unwrap();
        // More than all the others hold, and in no group.
        let lost = tree.residual_in(task, None).unwrap();
        lost.charged.add(None, 1 << 30).unwrap();
        assert_eq!(lost.cell_if_any(), None);
        let held = tree.objcgs.get(task).charged_bytes();
        assert_eq!(engine.largest_below(root, u64::MAX), Some((task, held)));
        assert_eq!(engine.largest_below(group, held), None);
    }
}
