//! The indices of this room's records, a type for each table.
//!
//! Invariants: an index names a record of its own table; "none" is `Option`, never a number.
//! Depends on: `sync::id` alone. No file of this room is below it.
//! Never: a number made into an index without a check, or an index of one table used for another.

#![forbid(unsafe_code)]

use crate::sync::id::ids;

ids! {
    /// A group, in [`Hierarchy::memcgs`](super::Hierarchy::memcgs).
    pub GroupId;
    /// A cell, in [`Hierarchy::cells`](super::Hierarchy::cells).
    pub CellId;
    /// A name of a group or task, or a further piece of a long one, in
    /// [`Hierarchy::names`](super::Hierarchy::names).
    pub NameId;
    /// The counts of a group's events, in
    /// [`Hierarchy::event_counts`](super::Hierarchy::event_counts).
    pub EventCountsId;
    /// A group's record of stalls, in [`Hierarchy::pressures`](super::Hierarchy::pressures).
    pub PressureId;
    /// The number by which what lists and caches keep for a group is indexed, in
    /// [`KmemIds`](super::kmem_id::KmemIds).
    pub KmemId;
    /// What children of a group begin with, in
    /// [`Hierarchy::templates`](super::Hierarchy::templates).
    pub TemplateId;
    /// What an owner has of pages, in [`PageBooks`](super::page_books::PageBooks).
    pub OwnerPagesId;
    /// What a group has of pages, in [`PageBooks`](super::page_books::PageBooks).
    pub GroupPagesId;
    /// A watch of a peak, in [`Hierarchy::watches`](super::Hierarchy::watches).
    pub WatchId;
}

/// The root group.
pub const ROOT: GroupId = GroupId::new(1);
