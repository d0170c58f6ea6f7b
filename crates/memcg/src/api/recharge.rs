//! Single things that get another owner: objects of caches. (Reservations: [`Charge::give`](super::Charge::give).)
//!
//! Tags do not change while a thing lives, but here: by who holds it, or has just looked it up. The new owner is charged first,
//! within its limits, nothing reclaimed and nobody killed for it; then the tag is swapped; then the old owner is uncharged.

#![forbid(unsafe_code)]

use super::cache::{KBox, KBytes};
use super::error::ReserveError;
use super::list_lru::FOUND;
use super::memcg::Memcg;
use super::pinned::pinned;
use crate::engine::ChargeError;
use crate::engine::process::{engine, with_rec};
use crate::group::cell::OfflineAction;

/// See [`KBox::touch`].
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

/// See [`KBox::recharge_to`].
fn recharge(at: usize, group: &Memcg) -> Result<(), ReserveError> {
    let tag = pinned(|engine, _| engine.tree.hold_live_tag(group.tag()));
    let outcome = with_rec(|engine, rec| engine.recharge_cached(rec, at, tag));
    pinned(|engine, _| engine.tree.release_objcg(tag));
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
            /// It was looked up: if it was left by a group that has ended and whose `memory.offline` says so (`next-touch`, `auto`),
            /// it is charged to whom the thread works for from here on. `true`: so it was done. What does not fit there stays
            /// where it is, and is counted (`recharge_failed`). Work in no group takes nothing over.
            ///
            /// Cost: the object's owner is looked up; where that lives nothing more is done.
            pub fn touch(&self) -> bool {
                touch(self.address())
            }

            /// Makes `group` pay for it; if that has been removed, the nearest above. All or nothing. The group above both
            /// has to have room for it twice for a moment. What nobody is charged for stays so.
            ///
            /// # Errors
            /// When there is no room for it: nothing has changed.
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
