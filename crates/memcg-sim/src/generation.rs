//! What is known of a kill generation.

#![forbid(unsafe_code)]

use memcg::testing::engine::Engine;
use memcg::testing::group::Tag;
use memcg::testing::group::kill_generation::KillGeneration;

/// What is known of the generation of a group's own owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    /// As it was noted last.
    pub noted: KillGeneration,
    /// It has been raised since.
    pub is_raised: bool,
    /// It may have been: groups ended in a step in which tasks were told to end.
    pub may_be: bool,
}

impl Generation {
    pub(crate) fn of(engine: &Engine, tag: Tag) -> Self {
        Self {
            noted: engine.tree.objcgs.get(tag).kill_generation(),
            is_raised: false,
            may_be: false,
        }
    }
}
