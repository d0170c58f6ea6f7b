//! What only the caller can know about threads and forks, as values: who has one may free what
//! others would hold.
//!
//! Invariants: a value is made by an `unsafe fn`, whose caller makes the promise; functions that
//! need it take the value.
//! Depends on: nothing.
//! Never: a check. Nobody can tell from inside whether a promise holds.

/// The calling thread is the only one of its process, or of what it is about to reset: the child of
/// a fork.
#[derive(Clone, Copy)]
pub struct SoleThread(());

impl SoleThread {
    /// Makes the promise.
    ///
    /// # Safety
    /// No other thread uses what the value is given for: each was left behind in the parent. What
    /// the calling thread itself was in the middle of there, it does not go on with.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

/// The calling thread, or the one it is the copy of, holds the locks that were taken before a fork,
/// and their guards are forgotten.
#[derive(Clone, Copy)]
pub struct HeldOverFork(());

impl HeldOverFork {
    /// Makes the promise.
    ///
    /// # Safety
    /// Every lock that the value is given for was taken so, and has not been let go of since.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}
