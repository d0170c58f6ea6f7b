//! A scope whose allocations are accounted to nobody, for any engine.

use crate::engine::Engine;
use crate::group::NO_TAG;
use crate::group::stock::Scope;
use crate::thread::ThreadRec;

/// What the thread of `rec` allocates is accounted to nobody until this is dropped.
#[must_use = "the scope ends when this is dropped"]
pub struct Quiet<'a> {
    engine: &'a Engine,
    rec: &'a ThreadRec,
    scope: Scope,
}

impl<'a> Quiet<'a> {
    /// Enters the scope. `rec` is the calling thread's. Cost: a few stores.
    pub fn enter(engine: &'a Engine, rec: &'a ThreadRec) -> Self {
        let scope = engine.tree.enter_scope(rec, NO_TAG);
        Self { engine, rec, scope }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.engine.tree.leave_scope(self.rec, self.scope);
    }
}
