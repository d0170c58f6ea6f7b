//! The lists (`list_lru`) of an engine's groups: where their operations take place, and what
//! becomes of their entries when a task moves.
//!
//! Invariants: what an owner has in lists follows it to another group, later.
//! Depends on: `kmem::list_lru`; the worker, which sorts the lists.
//! Never: walks a list in a move. Only `ready_lists` and `ready_heap` may run code of the program.

#![forbid(unsafe_code)]

use super::{Engine, Flags, Request, Work};
use crate::group::{Kind, Tag};
use crate::kmem::class::{bytes_of, class_if_any};
use crate::kmem::list_lru::Cx;
use crate::thread::ThreadRec;

impl Engine {
    /// Runs `f` with all that operations on lists need. What a fork has to wait for they run by
    /// [`Engine::change`].
    pub fn with_lists<R>(&self, rec: &ThreadRec, f: impl FnOnce(Cx<'_>) -> R) -> R {
        f(Cx {
            tree: &self.tree,
            kmem: &self.kmem,
            rec,
            change: &|change| self.change(change),
        })
    }

    /// Before something of `tag` is put into a list: gets its group a kmem id, as [`Self::kmem_id`]
    /// does. If there is none to be had, the list of the nearest group above that has an id serves.
    /// The caller is not pinned and holds no lock; with WAIT and USER in `flags` shrinkers may run
    /// here. Cost: a load where groups do not linger.
    pub fn ready_lists(&self, rec: &ThreadRec, tag: Tag, flags: Flags) {
        if !self.tree.lingers() {
            return;
        }
        let _pin = self.tree.threads.epoch.pin(rec);
        let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        let _ = self.kmem_id(rec, group, flags);
    }

    /// Makes room in the groups of `tag`, as `flags` allow, for a thing of `bytes` that is about to
    /// be taken from the heap: the heap itself may neither wait nor run code of the program. If no
    /// room is to be had, the heap refuses or goes into debt, as always. The caller is not pinned,
    /// holds no lock, and has a reference to `tag`.
    pub fn ready_heap(&self, rec: &ThreadRec, tag: Tag, bytes: usize, flags: Flags) {
        if !flags.has(Flags::WAIT) {
            return;
        }
        let bytes = class_if_any(bytes).map_or(bytes, bytes_of) as u64;
        let request = Request::reserved(tag, bytes, flags | Flags::EARLY);
        if let Ok(charged) = self.charge(rec, request) {
            self.uncharge(rec, tag, charged, Kind::Reserved);
        }
    }

    /// Runs `mover`, which may move the owner `tag` to another group. If it succeeds, the worker
    /// later moves what the owner has in lists of the old group; the order of its pages is that of
    /// the new one at once. The caller is pinned. Cost: O(1) beside `mover`, O(log owners) with
    /// pages.
    pub fn lists_follow<R, E>(
        &self,
        tag: Tag,
        mover: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        let from = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        let id = self.tree.kmem_id_if_any(from);
        let moved = mover()?;
        self.pages_follow(tag);
        if let Some(id) = id
            && self.kmem.lists.nr_heads() > 0
        {
            // If too much work waits already, the next walk of that group's list moves the entries.
            self.defer(Work::Sort { id });
        }
        Ok(moved)
    }
}
