//! Whom touches of pages charge, said outright.
//!
//! Invariants: the owner that the thread's record names is named by the call that put it there.
//! Depends on: the thread's record; `engine::pages::whom` reads it.
//! Never: changes whom heap objects are charged to.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use crate::engine::process_engine::with_rec;
use crate::group::Tag;
use crate::sync::atomic::Ordering;

/// What the record named before, put back.
struct Before(Option<Tag>);

impl Drop for Before {
    fn drop(&mut self) {
        with_rec(|_, rec| rec.charge_to.store(self.0, Ordering::Relaxed));
    }
}

/// Runs `f`; pages that come into memory by what the thread touches meanwhile are charged to
/// `group`, whosever mapping it is and whoever is declared. What is in memory already stays whose
/// it is; what is compressed or swapped out comes back to whose it was. Calls nest; a panic ends it
/// too.
///
/// Other charges are not concerned: for heap objects see [`Memcg::enter`].
///
/// ```
/// let (reader, librarian) = (
///     memcg::root().create("reader").unwrap(),
///     memcg::root().create("librarian").unwrap(),
/// );
/// let shelf = memcg::Region::shmem("shelf", 1 << 20).unwrap();
/// let mapping = shelf.map(&reader).unwrap();
/// memcg::charge_to(&librarian, || mapping.write_at(0, b"catalogue")).unwrap();
/// assert_eq!((reader.current(), librarian.current()), (0, 4096));
/// ```
pub fn charge_to<R>(group: &Memcg, f: impl FnOnce() -> R) -> R {
    let before = with_rec(|_, rec| {
        let before = rec.charge_to.load(Ordering::Relaxed);
        rec.charge_to.store(Some(group.tag()), Ordering::Relaxed);
        before
    });
    let _before = before.map(Before);
    f()
}
