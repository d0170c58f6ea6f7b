//! Kmem ids: small numbers that index what lists and caches keep for each group.
//!
//! A group's first use of an id races with its end: both change the group's word, and one of them
//! is first. After the end the word says "ended" until the record is another group's. So a late
//! first use finds [`IdError::Gone`] and goes to the group above.
//!
//! Invariants: a group has at most one id, from its first use by a list or a cache until its end.
//! No two groups have one id at the same time, and a pinned reader that found a group's id never
//! sees it become another group's. The smallest free id is given, so ids are dense. Every group
//! above one with an id has an id too: what a group leaves has a place to go to, and needs no
//! memory for it. The root always has [`ROOT_ID`].
//! Depends on: `limbo` for the grace period.
//! Never: a lock; memory taken at a group's end; a look at what an id indexes, which is `kmem`'s.

use super::Hierarchy;
use super::id::{GroupId, KmemId, ROOT};
use super::limbo::What;
use super::memcg_record::Memcg;
use crate::counter::Level;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::id::{AtomicId, Id};

/// The root's id.
pub const ROOT_ID: KmemId = KmemId::new(1);
/// A group's word before its first use.
const NO_ID: u32 = 0;
/// A group's word from its end on.
const ENDED: u32 = u32::MAX;

/// What a group's word says.
enum Word {
    /// It has not needed an id.
    None,
    Id(KmemId),
    /// Its end has begun.
    Ended,
}

impl Word {
    fn of(word: u32) -> Self {
        match (word, KmemId::from_raw(word)) {
            (ENDED, _) => Word::Ended,
            (_, None) => Word::None,
            (_, Some(id)) => Word::Id(id),
        }
    }

    fn id(self) -> Option<KmemId> {
        match self {
            Word::Id(id) => Some(id),
            Word::None | Word::Ended => None,
        }
    }
}

/// Ids are below this, whatever the limit: 2²⁰.
pub const ID_LIMIT: u32 = if cfg!(loom) { 64 } else { 1 << 20 };
/// The largest id unless another was set: as many as the kernel has.
pub const DEFAULT_MAX_ID: u32 = if cfg!(loom) { 63 } else { 65_535 };
const WORDS: usize = ID_LIMIT as usize / 64;

/// Why a group has no id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum IdError {
    /// It has ended: what it would hold is the group's above.
    Gone,
    /// All ids are in use. Heals when groups that have one end.
    Exhausted,
    /// The kernel gives no pages for the table.
    NoMemory,
}

impl core::fmt::Display for IdError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            IdError::Gone => "the group has been removed",
            IdError::Exhausted => {
                "all kmem ids are in use: remove groups that hold lists or caches"
            }
            IdError::NoMemory => "no memory for a kmem id",
        })
    }
}

impl core::error::Error for IdError {}

/// Who has an id, and the id's link in limbo.
#[derive(Default)]
pub struct Holder {
    link: AtomicU32,
    /// None: nobody's, or on its way. Only the audit and tests look from an id to its group.
    ///
    /// Relaxed: it is published with the group's word. Who has found an id in a group's word
    /// (Acquire) finds the group here, since `give_kmem_id` writes it before that word (Release);
    /// and a pin keeps the id from being another's.
    group: AtomicId<GroupId>,
}

// SAFETY: an atomic integer and an optional id: zero bytes are 0 and none.
unsafe impl Zeroed for Holder {}
// SAFETY: `link` is limbo's alone; holders are never in the arena's free list.
unsafe impl Record for Holder {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// The ids of one hierarchy.
pub struct KmemIds {
    /// A bit for each id: taken.
    taken: [AtomicU64; WORDS],
    /// By id. Filled in step with the highest id there ever was.
    pub(super) holders: Arena<KmemId, Holder>,
    /// The words before this one are full, as far as is known.
    first: AtomicU32,
    /// 0: [`DEFAULT_MAX_ID`].
    max_id: AtomicU32,
    in_use: AtomicU32,
    nr_exhausted: AtomicU64,
}

impl Default for KmemIds {
    fn default() -> Self {
        Self {
            taken: core::array::from_fn(|_| AtomicU64::default()),
            holders: Arena::default(),
            first: AtomicU32::default(),
            max_id: AtomicU32::default(),
            in_use: AtomicU32::default(),
            nr_exhausted: AtomicU64::default(),
        }
    }
}

// SAFETY: atomic integers, and an arena, which is Zeroed itself; zero bytes are "no id taken".
unsafe impl Zeroed for KmemIds {}

impl KmemIds {
    /// The largest id that is given.
    pub fn max_id(&self) -> u32 {
        match self.max_id.load(Ordering::Relaxed) {
            0 => DEFAULT_MAX_ID,
            max => max,
        }
    }

    /// Sets it, within 1 and [`ID_LIMIT`] − 1. Groups with a larger one keep it.
    pub fn set_max_id(&self, max: u32) {
        self.max_id
            .store(max.clamp(1, ID_LIMIT - 1), Ordering::Relaxed);
    }

    /// Ids that groups have, or that wait for the epochs.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// One past the largest id there ever was.
    pub fn high_water(&self) -> u32 {
        self.holders.high_water()
    }

    /// How often there was none left.
    pub fn nr_exhausted(&self) -> u64 {
        self.nr_exhausted.load(Ordering::Relaxed)
    }

    /// Bytes of the tables, as far as they have been used.
    pub fn bytes(&self) -> u64 {
        let high = u64::from(self.high_water());
        high.div_ceil(64) * 8 + high * size_of::<Holder>() as u64
    }

    /// The group that has an id. The caller is pinned.
    #[cfg(any(test, feature = "testing"))]
    pub fn holder(&self, id: KmemId) -> Option<GroupId> {
        if id.raw() >= self.high_water() {
            return None;
        }
        self.holders.get(id).group.load(Ordering::Relaxed)
    }

    /// Takes the smallest id below `below` that is free.
    fn alloc_id(&self, below: u32) -> Option<KmemId> {
        let from = self.first.load(Ordering::Relaxed);
        self.alloc_id_from(from as usize, below).or_else(|| {
            // What is known may be out of date.
            (from > 0).then(|| self.alloc_id_from(0, below)).flatten()
        })
    }

    fn alloc_id_from(&self, from: usize, below: u32) -> Option<KmemId> {
        for at in from..(below as usize).div_ceil(64) {
            let mut word = self.taken[at].load(Ordering::Relaxed);
            while word != u64::MAX {
                let bit = (!word).trailing_zeros();
                let id = at as u32 * 64 + bit;
                if id >= below {
                    return None;
                }
                // Acquire pairs with the Release of `free_id`.
                match self.taken[at].compare_exchange_weak(
                    word,
                    word | 1 << bit,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        // Only if nobody has given one back meanwhile.
                        let _ = self.first.compare_exchange(
                            from as u32,
                            at as u32,
                            Ordering::Relaxed,
                            Ordering::Relaxed,
                        );
                        self.in_use.fetch_add(1, Ordering::Relaxed);
                        // Bit 0 of the first word is taken for good: 0 is no id.
                        return KmemId::from_raw(id);
                    }
                    Err(now) => word = now,
                }
            }
        }
        None
    }

    /// Gives back an id that nobody looks at any more.
    pub(super) fn free_id(&self, id: KmemId) {
        let id = id.raw();
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        // Release pairs with the Acquire of `alloc_id_from`.
        self.taken[id as usize / 64].fetch_and(!(1 << (id % 64)), Ordering::Release);
        self.first.fetch_min(id / 64, Ordering::Relaxed);
    }

    /// Sees to it that an id has a holder's record.
    fn have_holder(&self, id: KmemId) -> Option<&Holder> {
        while self.holders.high_water() <= id.raw() {
            self.holders.alloc(ID_LIMIT)?;
        }
        Some(self.holders.get(id))
    }
}

impl Hierarchy {
    /// Gives the root its id. Once, before any other is asked for.
    pub(super) fn init_kmem_ids(&self) -> Option<()> {
        let ids = &self.kmem_ids;
        // 0 is no id.
        ids.taken[0].store(0b11, Ordering::Relaxed);
        ids.in_use.store(1, Ordering::Relaxed);
        ids.have_holder(ROOT_ID)?
            .group
            .store(Some(ROOT), Ordering::Relaxed);
        let root = self.memcgs.get(ROOT);
        // Release pairs with the Acquire of `kmem_id_below` and `kmem_id_if_any`.
        root.kmem_id.store(ROOT_ID.raw(), Ordering::Release);
        Some(())
    }

    /// The kmem id of a group: its own, or the smallest that is free, which is its own from now on.
    /// The groups above it have theirs first. The caller is pinned. Cost: a load; at first use a
    /// search of the bits and a CAS or two a level.
    ///
    /// # Errors
    /// [`IdError::Gone`] once the group's end has begun; else there is no id, or no memory for one.
    pub fn kmem_id(&self, group: &Memcg) -> Result<KmemId, IdError> {
        self.kmem_id_below(group, self.kmem_ids.max_id() + 1)
    }

    /// As [`Self::kmem_id`], giving only ids below `below`: what needs no table to grow.
    pub fn kmem_id_below(&self, group: &Memcg, below: u32) -> Result<KmemId, IdError> {
        loop {
            // Acquire pairs with the Release of `give_kmem_id` and `end_kmem_id`.
            match Word::of(group.kmem_id.load(Ordering::Acquire)) {
                Word::None => {}
                Word::Ended => return Err(IdError::Gone),
                Word::Id(id) => return Ok(id),
            }
            // The topmost that has none. Of a group that is online all above are.
            let mut first = group;
            while let Some(above) = first.parent() {
                // Acquire pairs with the Release of `give_kmem_id` and `end_kmem_id`.
                match Word::of(above.kmem_id.load(Ordering::Acquire)) {
                    Word::None => first = above,
                    Word::Ended => return Err(IdError::Gone),
                    Word::Id(_) => break,
                }
            }
            self.give_kmem_id(first, below)?;
        }
    }

    /// The kmem id of a group that has one. The caller is pinned.
    #[inline]
    pub fn kmem_id_if_any(&self, group: &Memcg) -> Option<KmemId> {
        // Acquire pairs with the Release of `give_kmem_id` and `end_kmem_id`.
        Word::of(group.kmem_id.load(Ordering::Acquire)).id()
    }

    /// The nearest group, this one or above, that has or gets an id, and the id: whose lists and
    /// caches serve `group`. The root's at worst. What is served is charged to its owner all the
    /// same. The caller is pinned.
    pub fn kmem_id_or_above<'a>(&'a self, group: &'a Memcg) -> (KmemId, &'a Memcg) {
        let mut at = group;
        loop {
            match (self.kmem_id(at), at.parent()) {
                (Ok(id), _) => return (id, at),
                // Gone: the group above, which inherits. Without ids: likewise, it may have one.
                (Err(_), Some(above)) => at = above,
                (Err(_), None) => return (ROOT_ID, at),
            }
        }
    }

    /// Whether `group` has `id` still, asked after something was entered under it: whoever ends the
    /// group has seen what was entered, or we see the end. If it has ended the caller ends what it
    /// entered, as a group's end would.
    pub fn still_has_kmem_id(&self, group: &Memcg, id: KmemId) -> bool {
        // Pairs with the fence of `end_kmem_id`.
        fence(Ordering::SeqCst);
        // Acquire pairs with the Release of `end_kmem_id`.
        group.kmem_id.load(Ordering::Acquire) == id.raw()
    }

    #[cold]
    fn give_kmem_id(&self, group: &Memcg, below: u32) -> Result<(), IdError> {
        let ids = &self.kmem_ids;
        let id = match ids.alloc_id(below) {
            Some(id) => id,
            None => {
                // Those of ended groups may only wait for somebody to look.
                for _ in 0..4 {
                    self.collect();
                }
                ids.alloc_id(below).ok_or_else(|| {
                    // Who wanted a small one may be content with a larger.
                    if below > ids.max_id() {
                        ids.nr_exhausted.fetch_add(1, Ordering::Relaxed);
                    }
                    IdError::Exhausted
                })?
            }
        };
        let Some(holder) = ids.have_holder(id) else {
            ids.free_id(id);
            return Err(IdError::NoMemory);
        };
        holder.group.store(Some(group.index()), Ordering::Relaxed);
        // Release pairs with the Acquire of `kmem_id_below` and `kmem_id_if_any`: the holder is
        // known. Acquire pairs with the Release of `end_kmem_id`.
        if group
            .kmem_id
            .compare_exchange(NO_ID, id.raw(), Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            // Another was quicker, or the group has ended. Nobody has seen the id.
            holder.group.store(None, Ordering::Relaxed);
            ids.free_id(id);
        }
        Ok(())
    }

    /// Begins the end of a group's id: from here on it has none, and gets none. Answers the one it
    /// had, which nobody else gets until [`Self::free_kmem_id`].
    pub fn end_kmem_id(&self, group: &Memcg) -> Option<KmemId> {
        // Release pairs with the Acquire of `still_has_kmem_id`; Acquire with the Release of
        // `give_kmem_id`.
        let id = group.kmem_id.swap(ENDED, Ordering::AcqRel);
        // Pairs with the fence of `still_has_kmem_id`.
        fence(Ordering::SeqCst);
        Word::of(id).id()
    }

    /// Ends an id: it is free when the epochs have passed. Nothing is entered under it any more.
    /// The caller is pinned.
    pub fn free_kmem_id(&self, id: KmemId) {
        let holder = self.kmem_ids.holders.get(id);
        holder.group.store(None, Ordering::Relaxed);
        self.retire(What::KmemId(id));
    }

    /// Gives back the ids of a list that limbo has let go; answers how many.
    pub(super) fn free_kmem_ids(&self, first: u32) -> u32 {
        let (mut at, mut n) = (first, 0);
        while let Some(id) = KmemId::from_raw(at) {
            at = self.kmem_ids.holders.get(id).link.load(Ordering::Relaxed);
            self.kmem_ids.free_id(id);
            n += 1;
        }
        n
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
