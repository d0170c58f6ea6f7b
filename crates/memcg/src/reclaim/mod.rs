//! Reclaim, as far as it can be thought through without doing it: whom to ask, for how much, in
//! which order.
//!
//! Kept: a group within its `min` is not asked, one within its `low` only when a pass without it
//! was not enough; what is asked is in proportion to what there is, to what lies above protection,
//! and to how hard it has become; the next pass goes on where the last one stopped. Relied on:
//! `counter` for the arithmetic of protection, the tree of `group`. Never done: a call of a
//! shrinker, a charge, a wait: that is `engine`.

pub mod oom_victim;
pub mod share;
pub mod subtree;
