//! Calls into the engine from a thread that holds an epoch pin.
//!
//! Invariants: while `f` of [`pinned`] runs, no group, owner or name that it reads is given to
//! another use.
//! Depends on: `engine`.
//! Never: takes a lock, or allocates, on its own account while pinned. `path_of_name` allocates the
//! path.

#![forbid(unsafe_code)]

use crate::engine::Engine;
use crate::engine::process_engine::with_rec;
use crate::group::NameId;
use crate::thread::ThreadRec;

/// Runs `f` with the engine and the thread's record, the thread's epoch pinned meanwhile.
///
/// # Panics
/// Without memory for a record of the thread.
pub(crate) fn pinned<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> R {
    with_rec(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        f(engine, rec)
    })
    .expect("no memory for a thread's record")
}

/// The path of the group that `name` is of. The caller is pinned and holds the name.
pub(crate) fn path_of_name(engine: &Engine, name: NameId) -> String {
    let mut bytes = 0;
    engine.tree.with_path(name, |piece| bytes += piece.len());
    // One allocation, which is the string.
    let mut path = Vec::with_capacity(bytes);
    engine
        .tree
        .with_path(name, |piece| path.extend_from_slice(piece));
    String::from_utf8(path)
        .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned())
}
