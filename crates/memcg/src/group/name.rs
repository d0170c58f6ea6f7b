//! Names of groups and tasks, in records that know the name above them.
//!
//! A name outlives its group while an owner's line in the ledger still tells where it came from.
//! Names are immutable; the link to the name above is too, except a task's, which follows its
//! moves.
//!
//! Invariants: a name has a reference on the one above it, and all its pieces go together.
//! Depends on: `sync::arena`; `limbo`, by which its records are used again.
//! Never: a lock; sees to it that a name is there once only. That is for `index` to say.

use super::Hierarchy;
use super::id::NameId;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::AtomicId;
use core::cell::UnsafeCell;

const TEXT: usize = 27;
/// The longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// The deepest group has this many above it.
pub const DEPTH_MAX: u32 = 255;

/// A name of up to 27 bytes, or the first 27 of a longer one.
#[derive(Default)]
pub struct NameRec {
    link: AtomicU32,
    refs: AtomicU32,
    above: AtomicId<NameId>,
    more: AtomicId<NameId>,
    text: UnsafeCell<(u8, [u8; TEXT])>,
}

// SAFETY: `text` is written before the record is published and not again until it was retired and
// reused.
unsafe impl Sync for NameRec {}
// SAFETY: integers, atomic or plain bytes, and optional ids: zero bytes are 0 or none.
unsafe impl Zeroed for NameRec {}
// SAFETY: Zeroed, see above. `link` is used by the lists of the arena and of limbo alone.
unsafe impl Record for NameRec {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl NameRec {
    /// References on it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn nr_refs(&self) -> u64 {
        u64::from(self.refs.load(Ordering::Relaxed))
    }

    /// Names it refers to: the one above, and the rest of itself.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn nr_links(&self) -> u64 {
        [&self.above, &self.more]
            .into_iter()
            .filter(|link| link.load(Ordering::Relaxed).is_some())
            .count() as u64
    }
}

/// What no group's name begins with: the files beside it do.
pub const FILE_PREFIXES: [&[u8]; 2] = [b"memory.", b"cgroup."];

/// What [`is_valid`] asks for, in words.
pub const NAME_RULE: &str = "a group's name has 1 to 255 bytes, no '/', no control characters, is \
     not '.' or '..', and does not begin with 'memory.' or 'cgroup.'";

/// Whether `name` may name a group: 1–255 bytes, no `/`, no control characters, not `.` or `..`,
/// not beginning as a file's name does.
pub fn is_valid(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name != b"."
        && name != b".."
        && !FILE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !name.iter().any(|&b| b == b'/' || b < 0x20 || b == 0x7f)
}

impl Hierarchy {
    /// A name record with one reference, below `above` (which gets one more). `None` without
    /// memory.
    pub(super) fn new_name(&self, text: &[u8], above: Option<NameId>) -> Option<NameId> {
        let mut rest = None;
        // From the end, so that each piece knows the one behind it.
        for piece in text
            .chunks(TEXT)
            .rev()
            .chain(text.is_empty().then_some(text))
        {
            let Some(index) = self.names.alloc(u32::MAX) else {
                self.free_pieces(rest);
                return None;
            };
            let record = self.names.get(index);
            record.refs.store(1, Ordering::Relaxed);
            record.more.store(rest, Ordering::Relaxed);
            record.above.store(None, Ordering::Relaxed);
            // SAFETY: the record is ours alone until the caller publishes it.
            let slot = unsafe { &mut *record.text.get() };
            slot.0 = piece.len() as u8;
            slot.1[..piece.len()].copy_from_slice(piece);
            rest = Some(index);
        }
        let name = rest?;
        if let Some(above) = above {
            self.ref_name(above);
        }
        // Release pairs with the Acquire of `with_path`.
        self.names.get(name).above.store(above, Ordering::Release);
        Some(name)
    }

    /// Frees the pieces of a name nobody has seen.
    fn free_pieces(&self, first: Option<NameId>) {
        let mut at = first;
        while let Some(piece) = at {
            let record = self.names.get(piece);
            at = record.more.load(Ordering::Relaxed);
            record.refs.store(0, Ordering::Relaxed);
            self.names.free(piece);
        }
    }

    /// Lets go of a name; the last one frees it and lets go of the one above. The caller is pinned.
    pub(super) fn unref_name(&self, name: NameId) {
        let mut at = Some(name);
        while let Some(name) = at {
            let record = self.names.get(name);
            // AcqRel pairs with that of the other calls: the last one sees what the others did.
            if record.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            at = record.above.load(Ordering::Relaxed);
            let mut more = Some(name);
            while let Some(piece) = more {
                let record = self.names.get(piece);
                more = record.more.load(Ordering::Relaxed);
                record.refs.store(0, Ordering::Relaxed);
                self.retire(super::limbo::What::Name(piece));
            }
        }
    }

    /// Puts a task's name below another group's. The caller is pinned and alone in changing this
    /// name.
    pub(crate) fn rehang_name(&self, name: NameId, above: NameId) {
        self.ref_name(above);
        let link = &self.names.get(name).above;
        // Release pairs with the Acquire of `with_path`; Acquire with the Release of `new_name` or
        // of an earlier call.
        if let Some(before) = link.swap(Some(above), Ordering::AcqRel) {
            self.unref_name(before);
        }
    }

    /// Whether a name is `text`. The caller is pinned.
    pub(super) fn name_is(&self, name: NameId, text: &[u8]) -> bool {
        let mut left = text;
        let mut at = Some(name);
        while let Some(piece) = at {
            let record = self.names.get(piece);
            // SAFETY: `text` was written before the record was published. We are pinned, so the
            // record is not reused, and nobody writes it, while the reference lives.
            let slot = unsafe { &*record.text.get() };
            let Some(rest) = left.strip_prefix(&slot.1[..slot.0 as usize]) else {
                return false;
            };
            left = rest;
            at = record.more.load(Ordering::Relaxed);
        }
        left.is_empty()
    }

    /// Hands the pieces of a name to `sink`. The caller is pinned.
    pub fn with_name(&self, name: NameId, mut sink: impl FnMut(&[u8])) {
        let mut at = Some(name);
        while let Some(piece) = at {
            let record = self.names.get(piece);
            // SAFETY: `text` was written before the record was published. We are pinned, so the
            // record is not reused, and nobody writes it, while the reference lives.
            let slot = unsafe { &*record.text.get() };
            sink(&slot.1[..slot.0 as usize]);
            at = record.more.load(Ordering::Relaxed);
        }
    }

    /// Hands the path a name ends to `sink`, piece by piece: `/`, `/a`, `/a/b`. The caller is
    /// pinned.
    pub fn with_path(&self, name: NameId, mut sink: impl FnMut(&[u8])) {
        let mut chain = [name; DEPTH_MAX as usize + 2];
        let mut depth = 0;
        let mut at = Some(name);
        while let Some(name) = at.filter(|_| depth < chain.len()) {
            chain[depth] = name;
            depth += 1;
            // Acquire pairs with the Release of `new_name` and `rehang_name`.
            at = self.names.get(name).above.load(Ordering::Acquire);
        }
        if depth <= 1 {
            sink(b"/");
            return;
        }
        // The first of the chain is the root's, which is empty.
        for &name in chain[..depth - 1].iter().rev() {
            sink(b"/");
            self.with_name(name, &mut sink);
        }
    }
}

impl Hierarchy {
    /// One more reference on a name, unless the last one is gone: to be given back by
    /// [`Self::release_name`]. The caller is pinned since it was somebody's.
    pub fn try_ref_name(&self, name: NameId) -> bool {
        let refs = &self.names.get(name).refs;
        let more = |refs| (refs != 0).then_some(refs + 1);
        // Nothing is read by way of it that pinning does not keep.
        refs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Lets go of a name that [`Self::try_ref_name`] held. The caller is pinned.
    pub fn release_name(&self, name: NameId) {
        self.unref_name(name);
    }

    /// Records of a name. The caller is pinned, or the name somebody's.
    pub(super) fn nr_pieces(&self, name: NameId) -> usize {
        let more = |piece: &NameId| self.names.get(*piece).more.load(Ordering::Relaxed);
        core::iter::successors(Some(name), more).count()
    }

    /// One more reference on a name that the caller has a reference on, or finds in a record that
    /// has one.
    pub(super) fn ref_name(&self, name: NameId) {
        self.names.get(name).refs.fetch_add(1, Ordering::Relaxed);
    }
}
