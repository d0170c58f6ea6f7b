//! Objects of caches that get another owner, one by one. (Reservations:
//! [`Charge::give`](super::Charge::give).)
//!
//! Invariants: the new owner is charged first, within its limits; then the tag is swapped; then the
//! old owner is uncharged. So an object is charged to at least one of the two at every moment.
//! Depends on: `cache`; `engine::recharge_object`.
//! Never: reclaims or kills for an object that changes owners.

#![forbid(unsafe_code)]

use super::cache::{KBox, KBytes};
use super::error::ReserveError;
use super::list_lru::FOUND;
use super::memcg::Memcg;
use super::pinned::pinned;
use crate::engine::ChargeError;
use crate::engine::process_engine::{engine, with_rec};
use crate::group::cell::OfflineAction;

/// Does what [`KBox::touch`] says, for the object at `at`.
fn touch(at: usize) -> bool {
    with_rec(|engine, rec| {
        let (tag, _) = engine.owner_of_cached(at);
        engine.has_offline_action(rec, tag, FOUND)
            && engine.with_toucher(rec, |to| {
                engine.recharge_cached(rec, at, to).unwrap_or(false)
            })
    })
    .unwrap_or(false)
}

/// Does what [`KBox::recharge_to`] says, for the object at `at`.
fn recharge(at: usize, group: &Memcg) -> Result<(), ReserveError> {
    let tag = pinned(|engine, _| engine.tree.ref_live_tag(group.tag()));
    let outcome = with_rec(|engine, rec| engine.recharge_cached(rec, at, tag));
    pinned(|engine, _| engine.tree.unref_objcg(tag));
    match outcome {
        Some(Err(refusal)) => Err(ReserveError::new(&ChargeError {
            bytes: engine().owner_of_cached(at).1,
            refusal,
        })),
        _ => Ok(()),
    }
}

fn was_left(at: usize, how: &[OfflineAction]) -> bool {
    with_rec(|engine, rec| engine.has_offline_action(rec, engine.owner_of_cached(at).0, how))
        .unwrap_or(false)
}

macro_rules! objects {
    ($([$($t:ident)?] $name:ty;)*) => {$(
        impl$(<$t>)? $name {
            /// Says that the object was looked up. If its group has been removed, with `next-touch`
            /// or `auto` as its `memory.offline`, the object is recharged to the group or task that
            /// the thread charges, and the answer is `true`. If it does not fit there it stays
            /// where it is, and `recharge_failed` is counted. A thread that charges nobody or the
            /// root takes nothing over.
            ///
            /// Cost: a look-up of the object's owner, and nothing more if the owner lives.
            pub fn touch(&self) -> bool {
                touch(self.address())
            }

            /// Recharges the object to `group`, or changes nothing. If the group has been removed,
            /// the nearest group above is charged. A group above both owners needs room for the
            /// object twice for a moment. An object that nobody is charged for stays so.
            ///
            /// # Errors
            /// When there is no room for the object: nothing has changed.
            pub fn recharge_to(&self, group: &Memcg) -> Result<(), ReserveError> {
                recharge(self.address(), group)
            }

            pub(super) fn was_left(&self, how: &[OfflineAction]) -> bool {
                was_left(self.address(), how)
            }
        }
    )*};
}

objects! {
    [T] KBox<T>;
    [] KBytes;
}
