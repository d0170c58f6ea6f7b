//! The function of the program that makes room for a registered cache.
//!
//! Invariants: a cache has one at most, for the rest of its life.
//! Depends on: the index type of groups.
//! Never: called by this room. The engine calls it, where the program's code may run and under no
//! lock.

#![forbid(unsafe_code)]

use crate::group::GroupId;

/// Frees about so many bytes in the group; answers how many bytes it freed.
type MakeRoom = dyn Fn(GroupId, u64) -> u64 + Send + Sync;

/// See the module.
#[derive(Clone, Copy)]
pub struct RoomMaker(&'static MakeRoom);

impl RoomMaker {
    /// Takes a function that lives as long as the process.
    pub fn new(make_room: &'static MakeRoom) -> Self {
        Self(make_room)
    }

    /// Asks for `bytes` in a group. The caller is not pinned and holds no lock.
    pub fn make_room(&self, group: GroupId, bytes: u64) -> u64 {
        (self.0)(group, bytes)
    }
}
