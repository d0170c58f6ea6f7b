//! A free into a slab of another heap: the object is published on the slab's word, and the slab is
//! brought to its owner if the owner asked for that.
//!
//! Invariants: an object is uncharged before it is published, so a slab owner that sleeps
//! causes no false refusal. After a push that gives no notice the slab is not touched any more.
//! Depends on: `remote` for the word, `parked` to deliver a slab.
//! Never: a lock.

use super::heap::Heap;
use super::remote::Pushed;
use super::slab::SlabRef;
use super::{Kmem, bad};

/// Frees an object of another heap's slab: publishes it, and delivers the slab to its owner if the
/// owner asked for notice. Its bytes were uncharged before.
///
/// # Safety
/// The object at `offset` of `slab` is live, and nobody uses it after this call. If `own` is given,
/// the calling thread acts for that heap.
pub(super) unsafe fn free_remote(kmem: &Kmem, own: Option<&Heap>, slab: SlabRef, offset: u32) {
    // SAFETY: the caller gives up a live, uncharged object, which is all that `publish` wants.
    if unsafe { publish(slab, offset) } {
        kmem.deliver(own, slab);
    }
}

/// Puts an object where the slab's owner finds it. `true`: the slab is in flight now, and the
/// caller has to deliver it. `false`: the slab may be released already, and is not to be touched.
///
/// # Safety
/// The object at `offset` of `slab` is live, its bytes are uncharged, and nobody uses it after this
/// call.
#[inline(always)]
pub(super) unsafe fn publish(slab: SlabRef, offset: u32) -> bool {
    let pushed = slab.remote.push(offset, 1, |next| {
        if next == offset {
            bad::bad_free(slab.start() + offset as usize, bad::BadFree::Double);
        }
        // SAFETY: the object was live and the caller gave it up, so until the CAS of `push`
        // publishes it no other thread reads or writes its first bytes.
        unsafe { slab.set_link(offset, next) };
    });
    pushed == Pushed::Notify
}
