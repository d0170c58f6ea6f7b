//! The errors of a file's write-back, told once to each of its users.
//!
//! Write-back is nobody's call: who writes a page of a file may not be who changed it. So a file
//! keeps its last error in a word with a count, each user keeps the word as it last saw it, and a
//! user whose word is another than the file's has an error to be told. The idea is the Linux
//! kernel's (`errseq_t`).
//!
//! A user that begins after an error was told to somebody is not told of it. One that begins while
//! nobody has been told is, so that no error is lost where the user who caused it has gone.
//!
//! Invariants: an error is told to each user there is, once, as long as fewer than 2^19 follow it
//! before the user looks; of several between two looks the last one. The count grows only when an
//! error comes after another that was told.
//! Depends on: `os::errno`.
//! Never: a lock; knowledge of who the users are.

use crate::os::errno::Errno;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering};

/// The number of the error.
const ERRNO: u32 = 0xfff;
/// Somebody has been told.
const TOLD: u32 = 1 << 12;
/// One more error; the bits from here up are the count.
const COUNT: u32 = 1 << 13;

/// A file's word. Zero: no error.
#[derive(Default)]
pub struct ErrorSeq(AtomicU32);

/// A user's word: as the file's was when the user last looked. Zero: of a time before any error.
#[derive(Default)]
pub struct ErrorCursor(AtomicU32);

// SAFETY: one atomic integer; zero is no error, as Default builds it.
unsafe impl Zeroed for ErrorSeq {}
// SAFETY: one atomic integer; zero is before any error, as Default builds it.
unsafe impl Zeroed for ErrorCursor {}

fn error_of(word: u32) -> Errno {
    Errno::of_number((word & ERRNO) as i32)
}

impl ErrorSeq {
    /// Notes an error, to be told to each user.
    pub fn record(&self, errno: Errno) {
        let next = |now: u32| {
            let count = if now & TOLD == 0 { 0 } else { COUNT };
            let new = (now & !(ERRNO | TOLD)).wrapping_add(count);
            Some(new | (errno.number() as u32 & ERRNO))
        };
        // AcqRel pairs with that of `check_and_advance`: who is told sees what came before.
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
    }

    /// Has `user` begin now: it is told of what comes later, and of what nobody was told yet.
    pub fn begin(&self, user: &ErrorCursor) {
        // Acquire pairs with the AcqRel of `record`.
        let now = self.0.load(Ordering::Acquire);
        let from = if now & TOLD == 0 { 0 } else { now };
        user.0.store(from, Ordering::Relaxed);
    }

    /// Whether there is an error that `user` was not told; it is not told by this.
    #[cfg(any(test, feature = "testing"))]
    pub fn has_news(&self, user: &ErrorCursor) -> bool {
        self.0.load(Ordering::Relaxed) != user.0.load(Ordering::Relaxed)
    }

    /// The last error, if `user` was not told of it; from here on it was. Of two threads that look
    /// for one user at once, one is told.
    pub fn check_and_advance(&self, user: &ErrorCursor) -> Option<Errno> {
        loop {
            let seen = user.0.load(Ordering::Relaxed);
            // Acquire pairs with the AcqRel of `record`.
            let now = self.0.load(Ordering::Acquire);
            if now == seen {
                return None;
            }
            let told = now | TOLD;
            // The file's word first: an error that comes after this one has a count of its own, so
            // that it is another than what `user` is about to keep. AcqRel pairs with that of
            // `record`; a failure looks again.
            let is_marked = now == told
                || self
                    .0
                    .compare_exchange(now, told, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            if is_marked
                && user
                    .0
                    .compare_exchange(seen, told, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                return Some(error_of(told));
            }
        }
    }

    /// Forgets all errors: the record is another file's from now on.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn users<const N: usize>(file: &ErrorSeq) -> [ErrorCursor; N] {
        let users = [(); N].map(|()| ErrorCursor::default());
        users.iter().for_each(|user| file.begin(user));
        users
    }

    #[test]
    fn each_user_is_told_of_an_error_once() {
        let file = ErrorSeq::default();
        let [a, b] = users(&file);
        assert_eq!(file.check_and_advance(&a), None);
        file.record(Errno::EIO);
        assert!(file.has_news(&a) && file.has_news(&b));
        assert_eq!(file.check_and_advance(&a), Some(Errno::EIO));
        assert_eq!(file.check_and_advance(&a), None);
        assert!(!file.has_news(&a));
        assert_eq!(file.check_and_advance(&b), Some(Errno::EIO));
        assert_eq!(file.check_and_advance(&b), None);
    }

    #[test]
    fn the_same_error_again_is_told_again_if_somebody_was_told_between() {
        let file = ErrorSeq::default();
        let [a, b] = users(&file);
        for _ in 0..3 {
            file.record(Errno::ENOSPC);
            file.record(Errno::ENOSPC);
            assert_eq!(file.check_and_advance(&a), Some(Errno::ENOSPC));
            assert_eq!(file.check_and_advance(&a), None);
        }
        file.record(Errno::EDQUOT);
        assert_eq!(file.check_and_advance(&b), Some(Errno::EDQUOT));
        assert_eq!(file.check_and_advance(&b), None);
    }

    #[test]
    fn who_comes_later_is_told_of_what_nobody_was_told_and_of_nothing_else() {
        let file = ErrorSeq::default();
        file.record(Errno::EIO);
        let [a, b] = users(&file);
        assert_eq!(file.check_and_advance(&a), Some(Errno::EIO));
        let [c] = users(&file);
        assert_eq!(file.check_and_advance(&c), None);
        assert_eq!(file.check_and_advance(&b), Some(Errno::EIO));
        let [d] = users(&file);
        file.record(Errno::ENOSPC);
        assert_eq!(file.check_and_advance(&d), Some(Errno::ENOSPC));
    }

    #[test]
    fn the_count_goes_round_without_touching_the_error() {
        let file = ErrorSeq(AtomicU32::new(!ERRNO | 5));
        let [a] = users(&file);
        assert_eq!(file.check_and_advance(&a), None);
        file.record(Errno::EIO);
        assert_eq!(file.check_and_advance(&a), Some(Errno::EIO));
    }

    #[test]
    fn every_error_of_the_table_comes_back_as_it_was() {
        for &(name, errno) in Errno::TABLE {
            let file = ErrorSeq::default();
            let [a] = users(&file);
            file.record(errno);
            assert_eq!(file.check_and_advance(&a), Some(errno), "{name}");
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread::spawn;

    #[derive(Default)]
    struct Shared {
        file: ErrorSeq,
        a: ErrorCursor,
        b: ErrorCursor,
    }

    /// Catches: the file's word marked by a store, over an error that has just come.
    #[test]
    fn loom_an_error_that_comes_while_another_is_told_is_told_too() {
        loom::model(|| {
            let shared = Arc::new(Shared::default());
            shared.file.record(Errno::EIO);
            let other = shared.clone();
            let writer = spawn(move || other.file.record(Errno::ENOSPC));
            let first = shared.file.check_and_advance(&shared.a);
            writer.join().unwrap();
            let second = shared.file.check_and_advance(&shared.a);
            let last = Some(Errno::ENOSPC);
            assert!(first == last && second.is_none() || second == last);
            assert_eq!(shared.file.check_and_advance(&shared.b), last);
            assert_eq!(shared.file.check_and_advance(&shared.b), None);
        });
    }

    /// Catches: the user's word stored, not exchanged.
    #[test]
    fn loom_of_two_threads_of_a_user_one_is_told() {
        loom::model(|| {
            let shared = Arc::new(Shared::default());
            shared.file.record(Errno::ENOSPC);
            let other = shared.clone();
            let thread = spawn(move || other.file.check_and_advance(&other.a));
            let mine = shared.file.check_and_advance(&shared.a);
            let theirs = thread.join().unwrap();
            assert_eq!(u32::from(mine.is_some()) + u32::from(theirs.is_some()), 1);
            assert_eq!(
                shared.file.check_and_advance(&shared.b),
                Some(Errno::ENOSPC)
            );
        });
    }
}
