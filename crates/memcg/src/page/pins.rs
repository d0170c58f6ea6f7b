//! The pages that a thread has pinned, so that it is found out when it would wait for itself.
//!
//! Invariants: a list is its thread's alone. A page is in it as often as the thread has it pinned.
//! Depends on: the thread's record, which names the list.
//! Never: a pin itself.

use super::id::PageId;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::thread::id::PinListId;
use crate::thread::{Tag, ThreadRec};

/// Pins that one record has room for.
const ROOM: usize = 30;

/// A part of a thread's list; those before it are full.
#[derive(Default)]
#[repr(C)]
pub struct PinList {
    link: AtomicU32,
    n: AtomicU32,
    /// The part before this one.
    before: AtomicId<PinListId>,
    pins: [Pin; ROOM],
}

#[derive(Default)]
struct Pin {
    page: AtomicU32,
    /// For whom.
    tag: AtomicU32,
}

// SAFETY: integers.
unsafe impl Zeroed for PinList {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for PinList {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// Whose pin a thread would wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Its own, for the same task or group.
    Same,
    /// Its own, for another one.
    Other,
    /// Not its own.
    Elsewhere,
}

/// All lists.
#[derive(Default)]
pub struct Pins(Arena<PinListId, PinList>);

// SAFETY: an arena, which is Zeroed.
unsafe impl Zeroed for Pins {}

impl Pins {
    /// Makes room for one more pin of the thread. `None`: no memory. Cost: two loads.
    #[inline]
    pub fn make_room(&self, rec: &ThreadRec) -> Option<()> {
        let last = rec.pins.load(Ordering::Relaxed);
        if let Some(last) = last
            && (self.0.get(last).n.load(Ordering::Relaxed) as usize) < ROOM
        {
            return Some(());
        }
        let new = self.0.alloc(u32::MAX)?;
        let list = self.0.get(new);
        list.n.store(0, Ordering::Relaxed);
        list.before.store(last, Ordering::Relaxed);
        rec.pins.store(Some(new), Ordering::Relaxed);
        Some(())
    }

    /// The thread has pinned `page` for `tag`. There is room: [`Self::make_room`].
    #[inline]
    pub fn push(&self, rec: &ThreadRec, page: PageId, tag: Tag) {
        let Some(last) = rec.pins.load(Ordering::Relaxed) else {
            return;
        };
        let list = self.0.get(last);
        let n = list.n.load(Ordering::Relaxed);
        if let Some(pin) = list.pins.get(n as usize) {
            pin.page.store(page.raw(), Ordering::Relaxed);
            pin.tag.store(tag.raw(), Ordering::Relaxed);
            list.n.store(n + 1, Ordering::Relaxed);
        }
    }

    /// The thread lets go of a pin of `page` for `tag`. Mostly the last one it took.
    #[inline]
    pub fn pop(&self, rec: &ThreadRec, page: PageId, tag: Tag) {
        let Some(last) = rec.pins.load(Ordering::Relaxed) else {
            return;
        };
        let list = self.0.get(last);
        let n = list.n.load(Ordering::Relaxed);
        if let Some(top) = list.pins.get((n as usize).wrapping_sub(1))
            && top.page.load(Ordering::Relaxed) == page.raw()
            && top.tag.load(Ordering::Relaxed) == tag.raw()
        {
            list.n.store(n - 1, Ordering::Relaxed);
            return;
        }
        self.pop_slow(rec, page, tag);
    }

    /// Lets go of parts that are empty, but the last; finds the pin wherever it is, and puts the
    /// newest in its place.
    #[cold]
    fn pop_slow(&self, rec: &ThreadRec, page: PageId, tag: Tag) {
        let Some(last) = rec.pins.load(Ordering::Relaxed) else {
            return;
        };
        let mut last = last;
        while self.0.get(last).n.load(Ordering::Relaxed) == 0
            && let Some(before) = self.0.get(last).before.load(Ordering::Relaxed)
        {
            rec.pins.store(Some(before), Ordering::Relaxed);
            self.0.free(last);
            last = before;
        }
        let found = self.each(rec).find(|pin| pin.is(page, Some(tag)));
        let top = self.0.get(last);
        let n = (top.n.load(Ordering::Relaxed) as usize).min(ROOM);
        if let (Some(found), Some(newest)) = (found, top.pins[..n].last()) {
            let load = |word: &AtomicU32| word.load(Ordering::Relaxed);
            found.page.store(load(&newest.page), Ordering::Relaxed);
            found.tag.store(load(&newest.tag), Ordering::Relaxed);
            top.n.store(n as u32 - 1, Ordering::Relaxed);
        }
    }

    /// Whose pin is in the way of a thread that wants `page` for `tag`. O(pins of the thread).
    pub fn holder(&self, rec: &ThreadRec, page: PageId, tag: Tag) -> Holder {
        let mut holder = Holder::Elsewhere;
        for pin in self.each(rec).filter(|pin| pin.is(page, None)) {
            holder = Holder::Other;
            if pin.is(page, Some(tag)) {
                return Holder::Same;
            }
        }
        holder
    }

    /// The thread ends: what it has pinned stays pinned, and nobody waits for himself any more.
    pub fn forget(&self, rec: &ThreadRec) {
        while let Some(last) = rec.pins.load(Ordering::Relaxed) {
            rec.pins.store(
                self.0.get(last).before.load(Ordering::Relaxed),
                Ordering::Relaxed,
            );
            self.0.free(last);
        }
    }

    fn each<'p>(&'p self, rec: &ThreadRec) -> impl Iterator<Item = &'p Pin> + use<'p> {
        let at = |id: Option<PinListId>| id.map(|id| self.0.get(id));
        let first = at(rec.pins.load(Ordering::Relaxed));
        let lists =
            core::iter::successors(first, move |list| at(list.before.load(Ordering::Relaxed)));
        lists.flat_map(|list| {
            let n = (list.n.load(Ordering::Relaxed) as usize).min(ROOM);
            list.pins[..n].iter()
        })
    }
}

impl Pin {
    fn is(&self, page: PageId, tag: Option<Tag>) -> bool {
        self.page.load(Ordering::Relaxed) == page.raw()
            && tag.is_none_or(|tag| self.tag.load(Ordering::Relaxed) == tag.raw())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_found_until_it_is_let_go_in_any_order() {
        let (pins, rec) = (Pins::default(), ThreadRec::default());
        let (page, tag) = (PageId::new, Tag::new);
        for n in 1..=100 {
            pins.make_room(&rec).unwrap();
            pins.push(&rec, page(n), tag(n % 3 + 1));
        }
        assert_eq!(pins.holder(&rec, page(7), tag(2)), Holder::Same);
        assert_eq!(pins.holder(&rec, page(7), tag(9)), Holder::Other);
        assert_eq!(pins.holder(&rec, page(101), tag(2)), Holder::Elsewhere);
        for n in (1..=50).chain((51..=100).rev()) {
            pins.pop(&rec, page(n), tag(n % 3 + 1));
            assert_eq!(pins.holder(&rec, page(n), tag(1)), Holder::Elsewhere);
            assert_eq!(
                pins.each(&rec).count() as u32,
                if n <= 50 { 100 - n } else { n - 51 }
            );
        }
        assert!(pins.0.in_use() <= 2, "the empty ones are let go");
        pins.forget(&rec);
        assert_eq!(pins.0.in_use(), 0);
    }
}
