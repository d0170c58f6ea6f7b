//! A table of this process: made when it is first needed, and left behind in the child of a fork.
//!
//! Who waits is in tables with locks. In the child those locks may be held by threads that it does
//! not have, and what is in the tables belongs to the parent's futures. So the child does not touch
//! them: it makes tables of its own.
//!
//! Invariants: what [`ProcessTable::get`] answers was made in this process. A table is never freed,
//! so no two ever have the same address.
//! Depends on: `engine::fork`, which counts the forks on the way to this process.
//! Never: a look into a table of the parent's, but for who asks for [`ProcessTable::of_parent`].

use super::scope::no_account;
use crate::engine::process_engine::with_rec;
use crate::thread::fork_word;
use core::sync::atomic::{AtomicPtr, Ordering};

struct Made<T> {
    forks: u32,
    table: T,
}

/// See the module.
pub(super) struct ProcessTable<T: 'static>(AtomicPtr<Made<T>>);

impl<T: Default + Send + Sync + 'static> ProcessTable<T> {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// The table that was made last, and whether it was in this process.
    fn last(&self) -> (*mut Made<T>, Option<&'static Made<T>>, bool) {
        // A child that nobody has told becomes one now.
        with_rec(|_, _| ());
        // Acquire pairs with the Release of `get_or_make`.
        let at = self.0.load(Ordering::Acquire);
        // SAFETY: only `get_or_make` stores a pointer other than null, to what is never freed.
        let made = unsafe { at.as_ref() };
        (
            at,
            made,
            made.is_some_and(|made| made.forks == fork_word::nr_forks()),
        )
    }

    /// The table, if this process has made one.
    pub(super) fn get(&self) -> Option<&'static T> {
        let (_, made, is_own) = self.last();
        made.filter(|_| is_own).map(|made| &made.table)
    }

    /// The table that was the parent's, or one's before it, if this process has made none.
    pub(super) fn of_parent(&self) -> Option<&'static T> {
        let (_, made, is_own) = self.last();
        made.filter(|_| !is_own).map(|made| &made.table)
    }

    /// The table, which is made if need be.
    pub(super) fn get_or_make(&self) -> &'static T {
        let (mut before, made, is_own) = self.last();
        if let Some(made) = made.filter(|_| is_own) {
            return &made.table;
        }
        let _free = no_account();
        let new = Box::into_raw(Box::new(Made {
            forks: fork_word::nr_forks(),
            table: T::default(),
        }));
        loop {
            // Release pairs with the Acquire of `last`; Acquire pairs with the Release of who came
            // first.
            let Err(now) =
                self.0
                    .compare_exchange(before, new, Ordering::AcqRel, Ordering::Acquire)
            else {
                // SAFETY: made above, and never freed once it is stored.
                return unsafe { &(*new).table };
            };
            // SAFETY: as in `last`; what another thread has stored is not null.
            let other = unsafe { &*now };
            if other.forks == fork_word::nr_forks() {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                return &other.table;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessTable;
    use std::sync::{Mutex, TryLockError};

    /// Runs `f` in a child, which is ended by a signal if it hangs.
    fn in_child(f: impl FnOnce() -> bool) {
        // SAFETY: the child does nothing but what this library is made to do in a child, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: no handler is set: the signal ends the child, as `_exit` does.
            unsafe {
                libc::alarm(100);
                libc::_exit(if f() { 0 } else { 101 });
            }
        }
        let mut status = 1;
        // SAFETY: waits for our child; a valid place.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
    }

    #[test]
    fn a_child_has_a_table_of_its_own_whoever_held_the_parents() {
        static TABLE: ProcessTable<Mutex<u32>> = ProcessTable::new();
        assert!(TABLE.get().is_none() && TABLE.of_parent().is_none());
        let own = TABLE.get_or_make();
        *own.lock().unwrap() = 7;
        assert!(TABLE.get().is_some_and(|table| core::ptr::eq(table, own)));
        let (locked, is_locked) = std::sync::mpsc::channel();
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            let held = own.lock().unwrap();
            locked.send(()).unwrap();
            is_over.recv().unwrap();
            drop(held);
        });
        is_locked.recv().unwrap();
        in_child(|| {
            let is_left = TABLE.get().is_none()
                && TABLE.of_parent().is_some_and(|parents| {
                    core::ptr::eq(parents, own)
                        && matches!(parents.try_lock(), Err(TryLockError::WouldBlock))
                });
            let new = TABLE.get_or_make();
            let is_new = *new.lock().unwrap() == 0;
            is_left && is_new && TABLE.of_parent().is_none()
        });
        over.send(()).unwrap();
        holder.join().unwrap();
        assert!(TABLE.get().is_some_and(|table| core::ptr::eq(table, own)));
    }

    #[test]
    fn threads_that_make_it_at_once_get_one() {
        static TABLE: ProcessTable<Mutex<u32>> = ProcessTable::new();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| *TABLE.get_or_make().lock().unwrap() += 1);
            }
        });
        assert_eq!(*TABLE.get_or_make().lock().unwrap(), 4);
    }
}
