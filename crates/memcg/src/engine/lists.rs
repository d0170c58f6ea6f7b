//! Lists of an engine's groups: where their operations take place, and what becomes of them when a task moves.

use super::{Engine, Work};
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

    /// Runs `mover`, which may move the owner `tag` to another group: what the owner has in lists follows, later. The caller is
    /// pinned. Cost: O(1) where the group it leaves has no lists.
    pub fn lists_follow<R, E>(
        &self,
        tag: u32,
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
