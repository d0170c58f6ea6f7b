//! Waiting for a word to change and waking who waits: the kernel's, or under loom what it promises.
//!
//! The model: to look at the word and to go to sleep is one step for who wakes. One bed for all
//! words, and no time passes: who sleeps for a while sleeps for ever, so that a wake-up that is
//! lost is found.
//!
//! Invariants: who finds that the word is no longer what was expected does not sleep.
//! Depends on: `os::futex`; loom's mutex and condition in a model.
//! Never: says whether the word has changed: a wait may end early, and the caller looks again.

#![forbid(unsafe_code)]

#[cfg(loom)]
pub use model::{wait_at_most, wake_all, wake_one};

#[cfg(not(loom))]
pub use crate::os::futex::{wait_at_most, wake_all, wake_one};

#[cfg(loom)]
mod model {
    use crate::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref BED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    /// Sleeps while `word` is `expected`.
    ///
    /// # Panics
    /// Never: nobody panics holding the lock.
    pub fn wait_at_most(word: &AtomicU32, expected: u32, _ms: u32) {
        let held = BED.0.lock().expect("nobody panics holding it");
        if word.load(Ordering::Relaxed) == expected {
            drop(BED.1.wait(held));
        }
    }

    /// Wakes one thread that waits.
    ///
    /// # Panics
    /// Never: nobody panics holding the lock.
    pub fn wake_one(_word: &AtomicU32) {
        let _held = BED.0.lock().expect("nobody panics holding it");
        BED.1.notify_one();
    }

    /// Wakes all threads that wait.
    ///
    /// # Panics
    /// Never: nobody panics holding the lock.
    pub fn wake_all(_word: &AtomicU32) {
        let _held = BED.0.lock().expect("nobody panics holding it");
        BED.1.notify_all();
    }
}
