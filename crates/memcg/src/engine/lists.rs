//! Lists of an engine's groups: where their operations take place, and what becomes of them when a
//! task moves.

#![forbid(unsafe_code)]

use super::{Engine, Flags, Request, Work};
use crate::group::{Kind, Tag};
use crate::kmem::class::{bytes_of, class_if_any};
use crate::kmem::list_lru::Cx;
use crate::thread::ThreadRec;

impl Engine {
    /// Runs `f` where lists can be used: what a fork has to wait for is run by [`Engine::change`].
    pub fn with_lists<R>(&self, rec: &ThreadRec, f: impl FnOnce(Cx<'_>) -> R) -> R {
        f(Cx {
            tree: &self.tree,
            kmem: &self.kmem,
            rec,
            change: &|change| self.change(change),
        })
    }

    /// Before something of `tag` is put into a list: gets its group a kmem id as [`Self::kmem_id`]
    /// does, where groups that linger may have to make room for it. Without one the list of the
    /// nearest group above that has an id serves. Unpinned, without a lock; with WAIT and USER in
    /// `flags` shrinkers may run here. A load where groups do not linger.
    pub fn ready_lists(&self, rec: &ThreadRec, tag: Tag, flags: Flags) {
        if !self.tree.lingers() {
            return;
        }
        let _pin = self.tree.threads.epoch.pin(rec);
        let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        let _ = self.kmem_id(rec, group, flags);
    }

    /// Before a thing of `bytes` is taken from the heap, which may neither wait nor run code of the
    /// program: has room made for it in the groups of `tag`, as `flags` allow. Where there is none
    /// the heap decides, as always. Unpinned, without a lock; the caller names `tag`.
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

    /// Runs `mover`, which may move the owner `tag` to another group: what the owner has in lists
    /// follows, later. The caller is pinned. Cost: O(1) where the group it leaves has no lists.
    pub fn lists_follow<R, E>(
        &self,
        tag: Tag,
        mover: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        let from = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        let id = self.tree.kmem_id_if_any(from);
        let moved = mover()?;
        if let Some(id) = id
            && self.kmem.lists.nr_heads() > 0
        {
            // Where too much waits already, the next walk of that group's list sees to it.
            self.defer(Work::Sort { id });
        }
        Ok(moved)
    }
}
