//! loom models of a page's word and of those who wait for it.

#![forbid(unsafe_code)]

use super::id::PageId;
use super::waiting::Waiting;
use super::word::{Access, Pinned, State, Tried, Wake, Word};
use crate::sync::atomic::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;

/// A page, its two words of content, and who waits.
#[derive(Default)]
struct Model {
    word: Word,
    content: [AtomicU64; 2],
    waiting: Waiting,
    fills: AtomicU64,
    evictions: AtomicU64,
}

const PAGE: PageId = PageId::new(512);

impl Model {
    /// In frame 7, clean.
    fn filled() -> Self {
        let model = Self::default();
        model.fill();
        model
    }

    fn fill(&self) {
        let seen = self.word.read();
        if !seen.is_absent() || !self.word.try_begin_fill(seen) {
            return;
        }
        self.fills.fetch_add(1, Ordering::Relaxed);
        let wake = self.word.publish(7, None, false, false);
        self.waiting.wake(PAGE, wake);
    }

    /// Pins, waiting as the engine does.
    fn pin(&self, access: Access) -> Pinned {
        loop {
            match self.word.try_pin(access) {
                Tried::Pinned(pinned) => return pinned,
                Tried::Out(_) => self.fill(),
                Tried::Busy(seen) => self.waiting.wait(PAGE, &self.word, seen, 0),
                Tried::Poisoned => panic!("nothing was lost"),
            }
        }
    }

    fn unpin(&self, access: Access) {
        let wake = match access {
            Access::Read => self.word.unpin_read(),
            Access::Write => self.word.unpin_write(),
        };
        self.waiting.wake(PAGE, wake);
    }

    fn write(&self) {
        let value = self.content[0].load(Ordering::Relaxed) + 1;
        for word in &self.content {
            word.store(value, Ordering::Relaxed);
        }
    }
}

#[test]
fn loom_two_who_want_an_absent_page_fill_it_once() {
    loom::model(|| {
        let model = Arc::new(Model::default());
        let other = {
            let model = model.clone();
            thread::spawn(move || {
                assert_eq!(model.pin(Access::Read).frame, 7);
                model.unpin(Access::Read);
            })
        };
        assert_eq!(model.pin(Access::Read).frame, 7);
        model.unpin(Access::Read);
        other.join().unwrap();
        assert_eq!(model.fills.load(Ordering::Relaxed), 1);
        assert!(model.word.read().is_unpinned());
    });
}

/// Catches: no fence between the note of a future and its look at the page, or between the page's
/// change and the look for futures.
#[test]
fn loom_a_future_that_waits_for_one_of_two_readers_is_told() {
    loom::model(|| {
        let model = Arc::new(Model::filled());
        model.pin(Access::Read);
        model.pin(Access::Read);
        // Somebody waits already, so that the future's note changes nothing.
        assert!(model.word.note_waiter(model.word.read()));
        let other = {
            let model = model.clone();
            thread::spawn(move || model.unpin(Access::Read))
        };
        let seen = model.word.read();
        model.waiting.set_asked(0, true);
        let waits = model.waiting.ask(&model.word, seen);
        other.join().unwrap();
        model.unpin(Access::Read);
        assert!(model.word.read().is_unpinned());
        assert!(!waits || model.waiting.take_told() == 1);
    });
}

#[test]
fn loom_who_waits_for_a_writer_is_woken() {
    loom::model(|| {
        let model = Arc::new(Model::filled());
        let other = {
            let model = model.clone();
            thread::spawn(move || {
                model.pin(Access::Write);
                model.write();
                model.unpin(Access::Write);
            })
        };
        model.pin(Access::Write);
        model.write();
        model.unpin(Access::Write);
        other.join().unwrap();
        assert_eq!(model.content[0].load(Ordering::Relaxed), 2);
        assert!(model.word.read().is_unpinned());
    });
}

#[test]
fn loom_what_is_read_without_a_pin_is_whole_or_is_not_believed() {
    loom::model(|| {
        let model = Arc::new(Model::filled());
        let other = {
            let model = model.clone();
            thread::spawn(move || {
                model.pin(Access::Write);
                model.write();
                model.unpin(Access::Write);
            })
        };
        let seen = model.word.read();
        if seen.readable().is_some() {
            let read: Vec<u64> = model
                .content
                .iter()
                .map(|word| word.load(Ordering::Relaxed))
                .collect();
            if seen.is_same_content(model.word.read_again()) {
                assert_eq!(read[0], read[1]);
            }
        }
        other.join().unwrap();
    });
}

#[test]
fn loom_a_page_is_pinned_or_evicted_and_evicted_once() {
    loom::model(|| {
        let model = Arc::new(Model::filled());
        let evict = |model: &Model| {
            let seen = model.word.read();
            if let State::Resident(_) = seen.state()
                && let Ok(wake) = model.word.try_evict(seen, State::Absent)
            {
                model.evictions.fetch_add(1, Ordering::Relaxed);
                model.waiting.wake(PAGE, wake);
            }
        };
        let others: Vec<_> = (0..2)
            .map(|n| {
                let model = model.clone();
                thread::spawn(move || match n {
                    0 => evict(&model),
                    _ => {
                        if let Tried::Pinned(_) = model.word.try_pin(Access::Read) {
                            assert!(matches!(model.word.read().state(), State::Resident(7)));
                            let _ = model.word.unpin_read();
                        }
                    }
                })
            })
            .collect();
        evict(&model);
        for other in others {
            other.join().unwrap();
        }
        let evicted = model.evictions.load(Ordering::Relaxed);
        assert!(evicted <= 1);
        assert_eq!(model.word.read().is_absent(), evicted == 1);
    });
}

#[test]
fn loom_a_fill_that_fails_wakes_who_waits_for_it() {
    loom::model(|| {
        let model = Arc::new(Model::default());
        let Tried::Out(seen) = model.word.try_pin(Access::Read) else {
            panic!("a new page is in no frame");
        };
        assert!(model.word.try_begin_fill(seen));
        let other = {
            let model = model.clone();
            thread::spawn(move || {
                model.pin(Access::Read);
                model.unpin(Access::Read);
            })
        };
        let wake = model.word.abort_fill(State::Absent);
        model.waiting.wake(PAGE, wake);
        other.join().unwrap();
        assert_eq!(model.fills.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn loom_what_is_written_out_while_others_read_is_clean_and_a_writer_makes_it_dirty() {
    loom::model(|| {
        let model = Arc::new(Model::filled());
        model.pin(Access::Write);
        model.unpin(Access::Write);
        let other = {
            let model = model.clone();
            thread::spawn(move || {
                if let Tried::Pinned(pinned) = model.word.try_pin(Access::Write) {
                    let was_clean = pinned.made_dirty;
                    let _ = model.word.unpin_write();
                    return Some(was_clean);
                }
                None
            })
        };
        let mut written = false;
        if let Tried::Pinned(_) = model.word.try_pin(Access::Read) {
            assert!(model.word.try_begin_writeback());
            model.word.end_writeback(false);
            assert_ne!(model.word.unpin_read(), Wake::Waiters);
            written = true;
        }
        let wrote = other.join().unwrap();
        let dirty = model.word.read().is_dirty();
        match (written, wrote) {
            (true, Some(true)) => assert!(dirty, "it was written to after it was written out"),
            (true, Some(false) | None) => assert!(!dirty),
            (false, _) => assert!(dirty),
        }
    });
}

/// Catches: an eviction without the fence, so that another page's bytes pass for this one's.
#[test]
fn loom_a_frame_that_another_page_gets_is_seen_by_who_reads_without_a_pin() {
    loom::model(|| {
        let model = Arc::new(Model::filled());
        let other = {
            let model = model.clone();
            thread::spawn(move || {
                let seen = model.word.read();
                let Ok(_) = model.word.try_evict(seen, State::Absent) else {
                    return;
                };
                // The frame is another page's: its filler writes it.
                let q = Word::default();
                let Tried::Out(out) = q.try_pin(Access::Write) else {
                    panic!("a new page is in no frame");
                };
                assert!(q.try_begin_fill(out));
                model.write();
            })
        };
        let seen = model.word.read();
        if seen.readable().is_some() {
            let read: Vec<u64> = model
                .content
                .iter()
                .map(|word| word.load(Ordering::Relaxed))
                .collect();
            if seen.is_same_content(model.word.read_again()) {
                assert_eq!(read, [0, 0], "another page's bytes");
            }
        }
        other.join().unwrap();
    });
}
