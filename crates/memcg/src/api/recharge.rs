//! Objects of caches that get another owner, one by one. (Reservations:
//! [`Charge::give`](super::Charge::give).)
//!
//! Invariants: the new owner is charged first, within its limits; then the tag is swapped; then the
//! old owner is uncharged. So an object is charged to one of the two at every moment.
//! Depends on: `cache`; `engine::recharge_object`.
//! Never: reclaim, or a kill, for an object that changes owners.
//!

#![forbid(unsafe_code)]

use super::cache::{KBox, KBytes};
use super::error::ReserveError;
use super::list_lru::FOUND;
use super::memcg::Memcg;
use super::pinned::pinned;
use crate::engine::ChargeError;
use crate::engine::process_engine::{engine, with_rec};
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
            /// Says that it was looked up. If it was left by a removed group whose `memory.offline`
            /// is `next-touch` or `auto`, it is charged to whom the thread charges from here on,
            /// and the answer is `true`. If it does not fit there it stays where it is, and
            /// `recharge_failed` is counted. A thread that charges nobody takes nothing over.
            ///
            /// Cost: a look-up of the object's owner, and nothing more where that lives.
            pub fn touch(&self) -> bool {
                touch(self.address())
            }

            /// Makes `group` pay for it; all of it or nothing. If the group has been removed, the
            /// nearest group above pays. The group above both needs room for it twice for a moment.
            /// An object that nobody is charged for stays so.
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
