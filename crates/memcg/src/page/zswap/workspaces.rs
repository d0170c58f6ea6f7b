//! What compression works in: few workspaces, of the engine's memory, tried for and never waited
//! for.
//!
//! Invariants: a workspace has one user at a time.
//! Depends on: `os::mmap`; `lz4` for what a workspace is.
//! Never: memory per call; a wait.

use super::lz4::Workspace;
use crate::os::mmap;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::promise::SoleThread;
use core::ptr::NonNull;

/// So many threads compress at once.
pub const WORKSPACES: usize = 8;

/// See the module. Zero bytes: without memory.
#[derive(Default)]
pub struct Workspaces {
    memory: AtomicUsize,
    taken: AtomicU32,
}

// SAFETY: integers; zero is "no memory, none taken", as Default builds it.
unsafe impl Zeroed for Workspaces {}

/// A workspace, for as long as it is held.
pub struct Taken<'a> {
    all: &'a Workspaces,
    index: u32,
    at: NonNull<Workspace>,
}

impl Workspaces {
    /// Has memory from here on; `None`: the kernel gives none. Called by one thread at a time.
    pub fn make(&self) -> Option<()> {
        if self.memory.load(Ordering::Relaxed) == 0 {
            let memory = mmap::map(WORKSPACES * size_of::<Workspace>())?;
            // Release pairs with the Acquire of `try_take`.
            self.memory
                .store(memory.as_ptr() as usize, Ordering::Release);
        }
        Some(())
    }

    /// Takes a workspace; `None`: all are taken, or there is no memory.
    pub fn try_take(&self) -> Option<Taken<'_>> {
        // Acquire pairs with the Release of `make`.
        let first = NonNull::new(self.memory.load(Ordering::Acquire) as *mut Workspace)?;
        let lowest_free = |taken: u32| {
            let index = taken.trailing_ones();
            (index < WORKSPACES as u32).then(|| taken | 1 << index)
        };
        // Acquire pairs with the Release of `Taken::drop`: its last user is done with it.
        let before = self
            .taken
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest_free)
            .ok()?;
        let index = before.trailing_ones();
        // SAFETY: the mapping holds WORKSPACES of them and is never unmapped; the index is below.
        let at = unsafe { first.add(index as usize) };
        Some(Taken {
            all: self,
            index,
            at,
        })
    }

    /// In the child of a fork: those of threads that it does not have are free.
    pub fn reset_in_child(&self, _sole: SoleThread) {
        self.taken.store(0, Ordering::Relaxed);
    }
}

impl core::ops::Deref for Taken<'_> {
    type Target = Workspace;

    fn deref(&self) -> &Workspace {
        // SAFETY: the address is of a workspace that is mapped for ever. Zero bytes, which it was
        // made of, are one. Its bit is set, and whose value this is is its only user.
        unsafe { self.at.as_ref() }
    }
}

impl core::ops::DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Workspace {
        // SAFETY: as in `deref`; and this value is borrowed for writing.
        unsafe { self.at.as_mut() }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `try_take`.
        self.all
            .taken
            .fetch_and(!(1 << self.index), Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_none_is_waited_for() {
        let all = Workspaces::default();
        assert!(all.try_take().is_none());
        all.make().unwrap();
        let mut taken: Vec<_> = (0..WORKSPACES).map(|_| all.try_take().unwrap()).collect();
        assert!(all.try_take().is_none());
        let mut at: Vec<_> = taken.iter().map(|one| one.at).collect();
        at.dedup();
        assert_eq!(at.len(), WORKSPACES);
        let index = taken.swap_remove(3).index;
        assert_eq!(all.try_take().unwrap().index, index);
    }
}
