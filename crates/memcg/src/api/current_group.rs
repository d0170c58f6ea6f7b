//! Whom the calling thread charges, as a handle on a group.
//!
//! Invariants: the answer is a group that is online, or the root.
//! Depends on: `memcg`, the thread's record.
//! Never: changes whom the thread charges.

#![forbid(unsafe_code)]

use super::memcg::{Memcg, root};
use super::pinned::pinned;
use crate::engine::process_engine::with_rec;
use crate::group::exact_charge::each_level;
use crate::group::{ROOT_TAG, Tag};

/// The owner of a thing that the calling thread makes. What is not accounted belongs to the root.
pub(super) fn current_or_root() -> Tag {
    with_rec(|_, rec| rec.current())
        .flatten()
        .unwrap_or(ROOT_TAG)
}

/// The group that the calling thread charges: that of the innermost scope it is in, of the task it
/// works for, or of the future it polls.
///
/// Of a group that has been removed, the answer is the nearest group above that is left: the one
/// that is charged. A thread that charges nobody ([`no_account`](super::no_account)) or is in no
/// scope gets the root.
///
/// For integrations: what hands work to another thread takes this handle along and enters it
/// there. No thread-local of its own is needed.
///
/// ```
/// let tenant = memcg::root().create("whom").unwrap();
/// let group = tenant.run(memcg::current_group);
/// assert_eq!(group, tenant);
/// let charged_elsewhere = std::thread::spawn(move || group.run(memcg::current_group));
/// assert_eq!(charged_elsewhere.join().unwrap(), tenant);
/// assert_eq!(memcg::current_group(), memcg::root());
/// ```
///
/// Cost: the group's lock, and an atomic increment for the handle. O(1), but where groups above
/// have been removed.
///
/// # Panics
/// Without memory for a record of the thread.
#[must_use]
pub fn current_group() -> Memcg {
    pinned(|engine, rec| {
        engine.with_owner(rec, |owner| {
            let cell = engine.tree.objcgs.get(owner?).cell();
            let mut nearest = None;
            each_level(engine.tree.resolve(cell).group, |level| {
                // One that is being removed, or lingers, is passed by.
                if nearest.is_none() {
                    nearest = Memcg::of_index(engine, level.index());
                }
            });
            nearest
        })
    })
    .unwrap_or_else(root)
}
