//! What is known of a compressed page: a record, and the word that says whether it is there.
//!
//! Invariants: while it is live or read, its object stays. Of the free and the reads one is told
//! that it is the last, and lets the object go. Each time a record is used it has another
//! generation.
//! Depends on: `sync`.
//! Never: a look at the page.

use crate::page::{SlotId, ZswapId};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;

const LIVE: u64 = 1 << 31;
const READS: u64 = LIVE - 1;
const GENERATION: u32 = 32;

/// The word: generation, whether it is live, reads at this moment. Zero bytes: not live.
#[derive(Default)]
pub struct Life(AtomicU64);

impl Life {
    /// It is live from here on, of a new generation.
    pub fn begin(&self) {
        let before = self.0.load(Ordering::Relaxed) >> GENERATION;
        let now = (before + 1) << GENERATION | LIVE;
        // Release pairs with the Acquire of `try_read` and `generation`: the record is whole.
        self.0.store(now, Ordering::Release);
    }

    /// The generation, if it is live.
    pub fn generation(&self) -> Option<u32> {
        // Acquire pairs with the Release of `begin`.
        let word = self.0.load(Ordering::Acquire);
        (word & LIVE != 0).then_some((word >> GENERATION) as u32)
    }

    /// Begins a read, if it is live.
    pub fn try_read(&self) -> bool {
        let step = |word: u64| (word & LIVE != 0).then(|| word + 1);
        // Acquire pairs with the Release of `begin`.
        self.0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, step)
            .is_ok()
    }

    /// Ends a read; `true`: it was freed meanwhile, and this was the last. The caller lets the
    /// object go.
    #[must_use]
    pub fn end_read(&self) -> bool {
        // AcqRel pairs with that of the other ends and of `end`: the last sees that others are
        // done.
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        before & (LIVE | READS) == 1
    }

    /// It is live no more. `None`: it was not; `Some(true)`: nobody reads it, the caller lets the
    /// object go.
    pub fn end(&self) -> Option<bool> {
        let step = |word: u64| (word & LIVE != 0).then_some(word & !LIVE);
        // AcqRel pairs with that of `end_read`.
        let before = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, step);
        before.ok().map(|word| word & READS == 0)
    }
}

/// See the module. Zero bytes: not live.
#[derive(Default)]
pub struct Entry {
    link: AtomicU32,
    /// Bytes compressed; 0: it is one word, repeated.
    pub len: AtomicU32,
    /// Whether it is there.
    pub life: Life,
    /// The object; or the word.
    pub what: AtomicU64,
    /// The slot it is to be written back to.
    pub slot: AtomicId<SlotId>,
    /// The caller's.
    pub tag: AtomicU32,
    /// The next younger one. Under the lock, as the next field.
    pub younger: AtomicId<ZswapId>,
    /// The next older one.
    pub older: AtomicId<ZswapId>,
}

// SAFETY: integers and words of indices; zero bytes are 0 and none, as Default builds it.
unsafe impl Zeroed for Entry {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Entry {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    // What the model looks at itself: no steps of its own to be mixed.
    use std::sync::atomic::{AtomicU32 as Seen, Ordering::Relaxed};

    #[derive(Default)]
    struct Object {
        life: Life,
        nr_reads: Seen,
        let_go: Seen,
    }

    impl Object {
        fn let_go(&self) {
            assert_eq!(self.nr_reads.load(Relaxed), 0, "somebody reads");
            assert_eq!(self.let_go.fetch_add(1, Relaxed), 0, "let go twice");
        }

        fn read(&self) {
            if self.life.try_read() {
                self.nr_reads.fetch_add(1, Relaxed);
                assert!(self.life.generation().is_none_or(|now| now == 1));
                assert_eq!(self.let_go.load(Relaxed), 0, "let go");
                self.nr_reads.fetch_sub(1, Relaxed);
                if self.life.end_read() {
                    self.let_go();
                }
            }
        }
    }

    /// Two read, one frees: who is told that it is the last is one, and nobody reads then.
    #[test]
    fn loom_the_last_of_reads_and_the_free_lets_go() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let object = Arc::new(Object::default());
            object.life.begin();
            let readers = [0, 1].map(|_| {
                let object = Arc::clone(&object);
                loom::thread::spawn(move || object.read())
            });
            if object.life.end() == Some(true) {
                object.let_go();
            }
            for reader in readers {
                reader.join().unwrap();
            }
            assert_eq!((object.let_go.load(Relaxed), object.life.end()), (1, None));
        });
    }
}
