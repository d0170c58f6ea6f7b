//! Who makes room for a registered cache: a function of the program, called where it may run and
//! under no lock.
//!
//! Invariants: a cache has one at most, for the rest of its life.
//! Depends on: the index of a group.
//! Never: a call; that is for the engine, which knows where the program's code may run.

#![forbid(unsafe_code)]

use crate::group::GroupId;

/// Makes room in the group of an index, about so many bytes; answers how many bytes it freed.
type MakeRoom = dyn Fn(GroupId, u64) -> u64 + Send + Sync;

/// See the module.
#[derive(Clone, Copy)]
pub struct RoomMaker(&'static MakeRoom);

impl RoomMaker {
    /// Of a function that lives as long as the process.
    pub fn new(make_room: &'static MakeRoom) -> Self {
        Self(make_room)
    }

    /// Asks for `bytes` in a group. Unpinned, under no lock.
    pub fn make_room(&self, group: GroupId, bytes: u64) -> u64 {
        (self.0)(group, bytes)
    }
}
