//! Who waits for room, and the lines in which they stand: what is noted of them.

#![forbid(unsafe_code)]

use memcg::testing::os::clock::own;

/// Somebody waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// In the order in which they came.
    pub number: u64,
    /// A group's own, or what was one.
    pub owner: usize,
    pub bytes: u64,
    /// In the line of this group.
    pub at: usize,
}

/// What is known of a group's line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Until then nobody passes.
    pub closed_until: u64,
    /// What the group used after the last step.
    pub used: Option<u64>,
}

pub(crate) fn now() -> u64 {
    own::now().unwrap_or_default()
}
