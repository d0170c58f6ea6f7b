//! The pool of frames: 4 KiB each, in one range of address space.
//!
//! Invariants: a frame that was taken is the taker's alone until it is given back. Its memory is at
//! its number times 4 KiB from the start of the range, and stays there.
//! Depends on: `os::mmap` for the range; an arena for what is known of each frame.
//! Never: gives the range back; a lock.

use super::id::{FrameId, PAGE, PageId, SlotId};
use super::word::NUMBER_LIMIT;
use crate::os::{memory_limit, mmap};
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::id::{AtomicId, Id};
use core::ptr::NonNull;

/// What is made usable at a time.
const STEP: usize = 32 << 20;
/// Frames of a step.
const STEP_FRAMES: u32 = (STEP / PAGE) as u32;

/// What is known of a frame.
#[derive(Default)]
pub struct Frame {
    link: AtomicU32,
    /// The page that has it.
    page: AtomicId<PageId>,
    /// A place in swap that has the same content.
    slot: AtomicId<SlotId>,
    /// Whether it was in use before, so that it may have old content.
    used: AtomicU32,
}

// SAFETY: integers.
unsafe impl Zeroed for Frame {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Frame {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// See the module.
#[derive(Default)]
pub struct Frames {
    frames: Arena<FrameId, Frame>,
    /// Where the range is; 0: not yet.
    base: AtomicUsize,
    /// How many frames the range has room for.
    capacity: AtomicU32,
    /// Frames below this number are usable.
    usable: AtomicU32,
}

// SAFETY: integers and an arena, which is Zeroed.
unsafe impl Zeroed for Frames {}

/// A frame that nobody knows yet. It is given back when this is dropped; [`Fresh::keep`] keeps it.
#[must_use]
pub struct Fresh<'f> {
    frames: &'f Frames,
    id: FrameId,
    is_zeroed: bool,
}

impl Fresh<'_> {
    /// Its number.
    #[cfg(any(test, feature = "testing"))]
    pub fn id(&self) -> FrameId {
        self.id
    }

    /// Its memory.
    pub fn bytes(&mut self) -> &mut [u8; PAGE] {
        self.is_zeroed = false;
        // SAFETY: the frame is in the usable part of the range, whose memory never goes; until this
        // value is consumed nobody else has the frame, and it is borrowed for as long.
        unsafe { &mut *self.frames.memory(self.id).as_ptr() }
    }

    /// Makes it read as zeros.
    pub fn zero(&mut self) {
        if !self.is_zeroed {
            self.bytes().fill(0);
            self.is_zeroed = true;
        }
    }

    /// It belongs to `page` from now on. To be given back by [`Frames::free`].
    pub fn keep(self, page: PageId) -> FrameId {
        let record = self.frames.frames.get(self.id);
        record.page.store(Some(page), Ordering::Relaxed);
        record.used.store(1, Ordering::Relaxed);
        let id = self.id;
        core::mem::forget(self);
        id
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.is_zeroed {
            let record = self.frames.frames.get(self.id);
            record.used.store(1, Ordering::Relaxed);
        }
        self.frames.frames.free(self.id);
    }
}

impl Frames {
    /// Takes a frame. `None`: there is no memory, or no address space left of the range.
    pub fn alloc(&self) -> Option<Fresh<'_>> {
        self.ensure_range()?;
        let id = self.frames.alloc(self.capacity.load(Ordering::Relaxed))?;
        if self.ensure_usable(id).is_none() {
            self.frames.free(id);
            return None;
        }
        let record = self.frames.get(id);
        record.slot.store(None, Ordering::Relaxed);
        Some(Fresh {
            frames: self,
            id,
            is_zeroed: record.used.load(Ordering::Relaxed) == 0,
        })
    }

    /// Gives a frame back. Its content is needed no more.
    pub fn free(&self, id: FrameId) {
        self.frames.free(id);
    }

    /// Where a frame's memory is.
    #[inline(always)]
    pub fn memory(&self, id: FrameId) -> NonNull<[u8; PAGE]> {
        let at = self.base.load(Ordering::Relaxed) + id.raw() as usize * PAGE;
        debug_assert!(id.raw() < self.capacity.load(Ordering::Relaxed));
        // A number that was handed out is of a range that is there.
        match NonNull::new(at as *mut [u8; PAGE]) {
            Some(memory) => memory,
            None => no_range(),
        }
    }

    /// Runs `f` on the content of a frame whose page the caller has pinned to read.
    pub fn with_pinned<R>(&self, id: FrameId, f: impl FnOnce(&[u8; PAGE]) -> R) -> R {
        // SAFETY: the frame is in the usable part of the range, whose memory never goes; the caller
        // has its page pinned, so nobody writes to it meanwhile.
        f(unsafe { &*self.memory(id).as_ptr() })
    }

    /// Zeroes a part of a frame whose page the caller has pinned to write.
    pub fn zero(&self, id: FrameId, part: core::ops::Range<usize>) {
        let part = part.start.min(PAGE)..part.end.min(PAGE);
        // SAFETY: the frame is in the usable part of the range, whose memory never goes; the caller
        // has its page pinned to write, so nobody else has a reference to its memory, and this one
        // ends here.
        let bytes = unsafe { &mut *self.memory(id).as_ptr() };
        bytes[part].fill(0);
    }

    /// What is in a frame.
    ///
    /// # Safety
    /// The caller has the frame's page pinned for as long as the answer lives, to read, or to write
    /// and does not write meanwhile.
    pub unsafe fn pinned(&self, id: FrameId) -> &[u8; PAGE] {
        // SAFETY: the frame is in the usable part of the range, whose memory never goes; nobody
        // writes to a page that another has pinned, and the caller does not.
        unsafe { self.memory(id).as_ref() }
    }

    /// The page that has a frame.
    #[cfg(any(test, feature = "testing"))]
    pub fn page(&self, id: FrameId) -> Option<PageId> {
        self.frames.get(id).page.load(Ordering::Relaxed)
    }

    /// The place in swap that has the same content as a frame.
    pub fn slot(&self, id: FrameId) -> Option<SlotId> {
        self.frames.get(id).slot.load(Ordering::Relaxed)
    }

    /// Notes a place in swap that has the same content, or that none has any more. By who has the
    /// page alone, or pinned and under writeback.
    pub fn set_slot(&self, id: FrameId, slot: Option<SlotId>) {
        self.frames.get(id).slot.store(slot, Ordering::Relaxed);
    }

    /// Frames that have a place in swap with the same content, each with its page.
    pub fn copies(&self) -> impl Iterator<Item = (FrameId, PageId)> {
        self.frames.each().filter_map(|(id, frame)| {
            frame.slot.load(Ordering::Relaxed)?;
            Some((id, frame.page.load(Ordering::Relaxed)?))
        })
    }

    /// Frames in use.
    pub fn in_use(&self) -> u32 {
        self.frames.in_use()
    }

    /// Bytes of frames in use.
    pub fn in_use_bytes(&self) -> u64 {
        u64::from(self.in_use()) * PAGE as u64
    }

    /// Bytes of frames that were in use and are free: they may be resident.
    pub fn free_bytes(&self) -> u64 {
        let ever = self.frames.high_water().saturating_sub(1);
        u64::from(ever.saturating_sub(self.frames.in_use())) * PAGE as u64
    }

    fn ensure_range(&self) -> Option<()> {
        // Acquire pairs with the Release below: the capacity is there.
        if self.base.load(Ordering::Acquire) != 0 {
            return Some(());
        }
        let bytes = range_bytes();
        let range = mmap::reserve(bytes)?;
        self.capacity
            .store((bytes / PAGE) as u32, Ordering::Relaxed);
        let at = range.as_ptr() as usize;
        // Release pairs with the Acquire above.
        let won = self
            .base
            .compare_exchange(0, at, Ordering::AcqRel, Ordering::Acquire);
        if won.is_err() {
            // SAFETY: another thread's range is the pool's; nobody has seen this one.
            unsafe { mmap::unmap(range, bytes) };
        }
        Some(())
    }

    fn ensure_usable(&self, id: FrameId) -> Option<()> {
        loop {
            // Acquire pairs with the Release below: the memory is accessible.
            let usable = self.usable.load(Ordering::Acquire);
            if id.raw() < usable {
                return Some(());
            }
            let at = self.base.load(Ordering::Relaxed) + usable as usize * PAGE;
            let room = self.capacity.load(Ordering::Relaxed) - usable;
            let step = STEP_FRAMES.min(room);
            // SAFETY: the range is of the reservation; a second thread at the same asks for what is
            // there already, which changes nothing.
            if step == 0 || !unsafe { mmap::commit(at, step as usize * PAGE) } {
                return None;
            }
            // Release pairs with the Acquire above.
            let _ = self.usable.compare_exchange(
                usable,
                usable + step,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }
}

#[cold]
fn no_range() -> ! {
    panic!("a frame of no pool")
}

/// How much address space the pool takes: four times the machine's memory, 16 GiB at least; where
/// address space is limited, a quarter of that limit.
fn range_bytes() -> usize {
    const LEAST: u64 = 16 << 30;
    let most = u64::from(NUMBER_LIMIT) * PAGE as u64;
    let wanted = memory_limit::machine_bytes()
        .saturating_mul(4)
        .clamp(LEAST, most);
    let bytes = match memory_limit::address_space() {
        Some(limit) => wanted.min(limit / 4),
        None => wanted,
    };
    (bytes as usize / STEP).max(1) * STEP
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_as_zeros_when_asked_and_is_used_again() {
        let frames = Frames::default();
        let mut first = frames.alloc().unwrap();
        assert!(
            first.bytes().iter().all(|&byte| byte == 0),
            "fresh memory is zeros"
        );
        first.bytes().fill(7);
        let id = first.keep(PageId::new(600));
        assert_eq!(
            (frames.page(id), frames.slot(id)),
            (Some(PageId::new(600)), None)
        );
        frames.set_slot(id, Some(SlotId::new(5)));
        frames.free(id);
        assert_eq!((frames.in_use(), frames.free_bytes()), (0, PAGE as u64));
        let mut again = frames.alloc().unwrap();
        assert_eq!((again.id(), frames.slot(id)), (id, None));
        again.zero();
        assert!(again.bytes().iter().all(|&byte| byte == 0));
        drop(again);
        assert_eq!(frames.in_use(), 0);
    }

    #[test]
    fn frames_of_two_threads_are_two() {
        let frames = Frames::default();
        std::thread::scope(|s| {
            for me in 1..=2_u8 {
                let frames = &frames;
                s.spawn(move || {
                    for _ in 0..2_000 {
                        let mut some: Vec<_> = (0..5).map(|_| frames.alloc().unwrap()).collect();
                        some.iter_mut().for_each(|frame| frame.bytes().fill(me));
                        assert!(
                            some.iter_mut()
                                .all(|frame| frame.bytes().iter().all(|&b| b == me))
                        );
                    }
                });
            }
        });
        assert_eq!(frames.in_use(), 0);
    }
}
