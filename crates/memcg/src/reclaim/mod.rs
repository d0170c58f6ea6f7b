//! Reclaim, as far as it can be computed without doing it: whom to ask, for how much, in which
//! order.
//!
//! Invariants: a group within its `min` is not asked; a group within its `low` is asked only when a
//! pass without it was not enough. What a group is asked for is in proportion to what it has, to
//! how much of that is above its protection, and to how hard reclaim has become. The next pass goes
//! on where the last one stopped.
//! Depends on: `counter` for the arithmetic of protection, the tree of `group`.
//! Never: a call of a shrinker, a charge, a wait: that is `engine`.

pub mod oom_victim;
pub mod share;
pub mod subtree;
