//! Memory for compressed pages: spans of 64 KiB, each of objects of one class.
//!
//! A span's lowest free object is given first, so the pages behind the highest that was ever given
//! are untouched and cost nothing: `held` counts the others. Where no span can be had, an object of
//! a larger class will do. Spans without objects are kept until they are a batch, then their pages
//! go back to the kernel; their addresses are used again.
//!
//! Invariants: an object has one user from `alloc` to `free`. A span is in the list of its class
//! while it has objects and room for more; without objects it is in one of two lists of spans. Held
//! pages are at no time more than the most that are allowed.
//! Depends on: `os::mmap`; the lock of [`super::Zswap`], which callers of all but `bytes` and
//! figures hold.
//! Never: a span unmapped.

use super::class::{self, CLASSES, MOST_OBJECTS, SPAN};
use crate::os::mmap;
use crate::page::PAGE;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::id::{AtomicId, Id, ids};
use core::ptr::NonNull;

ids! {
    /// A span.
    pub SpanId;
}

/// Spans that are mapped at once.
const CHUNK: usize = 32;

/// Spans without objects that make a batch: 1 MiB.
pub const BATCH: u32 = 16;

/// Spans that are looked at for an object that needs no page more, when no more may be held.
const LOOKS: usize = 16;

const WORDS: usize = MOST_OBJECTS / 64;

/// What is known of a span. Changed with the lock held; `at` and `class` do not change while it
/// has an object.
#[derive(Default)]
struct Span {
    /// The arena's, of which it is never freed.
    link: AtomicU32,
    class: AtomicU32,
    nr_used: AtomicU32,
    /// Pages from its first on that may have content.
    nr_pages: AtomicU32,
    at: AtomicUsize,
    next: AtomicId<SpanId>,
    prev: AtomicId<SpanId>,
    used: [AtomicU64; WORDS],
}

// SAFETY: integers and words of indices; zero bytes are 0 and none, as Default builds it.
unsafe impl Zeroed for Span {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Span {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Span {
    fn class(&self) -> usize {
        self.class.load(Relaxed) as usize
    }

    fn lowest_free(&self) -> Option<usize> {
        let nr = class::nr_objects(self.class());
        let words = self.used.iter().enumerate();
        let mut free = words.filter_map(|(at, word)| {
            let word = word.load(Relaxed);
            (word != u64::MAX).then(|| at * 64 + word.trailing_ones() as usize)
        });
        free.next().filter(|&index| index < nr)
    }
}

/// An object: its span, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    span: SpanId,
    index: u16,
}

impl Place {
    /// It as a number.
    pub fn raw(self) -> u64 {
        u64::from(self.span.raw()) << 16 | u64::from(self.index)
    }

    /// The one of a number.
    pub fn from_raw(raw: u64) -> Option<Self> {
        let span = SpanId::from_raw((raw >> 16) as u32)?;
        let index = raw as u16;
        Some(Self { span, index })
    }
}

/// Why there is no object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoObject {
    /// It would be more than is allowed.
    Full,
    /// The kernel gives no memory.
    NoMemory,
}

/// The lists of spans, by class.
struct Lists([AtomicId<SpanId>; CLASSES]);

impl Default for Lists {
    fn default() -> Self {
        Self(core::array::from_fn(|_| AtomicId::default()))
    }
}

/// See the module. Zero bytes: empty, with nothing allowed.
#[derive(Default)]
pub struct Pool {
    spans: Arena<SpanId, Span>,
    /// Spans with objects and room, by class.
    partial: Lists,
    /// Spans without objects and without pages.
    clean: AtomicId<SpanId>,
    /// Spans without objects that may have pages.
    dirty: AtomicId<SpanId>,
    nr_dirty: AtomicU32,
    /// Pages of all spans that may have content.
    held: AtomicU64,
    /// How many may be held.
    most: AtomicU64,
}

// SAFETY: each field is Zeroed or an atomic integer.
unsafe impl Zeroed for Pool {}

impl Pool {
    /// Pages that are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Spans without objects that may have pages.
    pub fn nr_dirty(&self) -> u32 {
        self.nr_dirty.load(Relaxed)
    }

    /// How many pages may be held.
    pub fn most(&self) -> u64 {
        self.most.load(Relaxed)
    }

    /// Lets it hold so many pages.
    pub fn set_most(&self, pages: u64) {
        self.most.store(pages, Relaxed);
    }

    fn link(&self, list: &AtomicId<SpanId>, id: SpanId) {
        let span = self.spans.get(id);
        let head = list.swap(Some(id), Relaxed);
        span.next.store(head, Relaxed);
        span.prev.store(None, Relaxed);
        if let Some(head) = head {
            self.spans.get(head).prev.store(Some(id), Relaxed);
        }
    }

    fn unlink(&self, list: &AtomicId<SpanId>, id: SpanId) {
        let span = self.spans.get(id);
        let (prev, next) = (span.prev.load(Relaxed), span.next.load(Relaxed));
        match prev {
            Some(prev) => self.spans.get(prev).next.store(next, Relaxed),
            None => list.store(next, Relaxed),
        }
        if let Some(next) = next {
            self.spans.get(next).prev.store(prev, Relaxed);
        }
    }

    fn pop(&self, list: &AtomicId<SpanId>) -> Option<SpanId> {
        let id = list.load(Relaxed)?;
        self.unlink(list, id);
        Some(id)
    }

    /// Maps more spans.
    fn map(&self) -> Option<()> {
        let memory = mmap::map(CHUNK * SPAN)?;
        for index in 0..CHUNK {
            // SAFETY: the mapping is CHUNK spans long.
            let at = unsafe { memory.add(index * SPAN) };
            let Some(id) = self.spans.alloc(u32::MAX) else {
                // SAFETY: what is left of the mapping is no span's, and nobody has seen it.
                unsafe { mmap::unmap(at, (CHUNK - index) * SPAN) };
                return (index > 0).then_some(());
            };
            self.spans.get(id).at.store(at.as_ptr() as usize, Relaxed);
            self.link(&self.clean, id);
        }
        Some(())
    }

    /// Makes a span without objects one of a class, with none given yet.
    fn new_span(&self, class: usize) -> Option<SpanId> {
        let id = match self.pop(&self.dirty) {
            Some(id) => {
                self.nr_dirty.fetch_sub(1, Relaxed);
                id
            }
            None => match self.pop(&self.clean) {
                Some(id) => id,
                None => {
                    self.map()?;
                    self.pop(&self.clean)?
                }
            },
        };
        self.spans.get(id).class.store(class as u32, Relaxed);
        self.link(&self.partial.0[class], id);
        Some(id)
    }

    /// Takes an object of a span that has room; `None`: it would hold too many pages.
    fn take(&self, id: SpanId) -> Option<Place> {
        let span = self.spans.get(id);
        let class = span.class();
        let index = span.lowest_free()?;
        let end = ((index + 1) * class::size_of_object(class)).div_ceil(PAGE) as u32;
        let more = end.saturating_sub(span.nr_pages.load(Relaxed));
        if more > 0 {
            let held = self.held() + u64::from(more);
            if held > self.most() {
                return None;
            }
            self.held.store(held, Relaxed);
            span.nr_pages.store(end, Relaxed);
        }
        span.used[index / 64].fetch_or(1 << (index % 64), Relaxed);
        if span.nr_used.fetch_add(1, Relaxed) + 1 == class::nr_objects(class) as u32 {
            self.unlink(&self.partial.0[class], id);
        }
        let index = index as u16;
        Some(Place { span: id, index })
    }

    /// Takes an object of one of the spans of a list, from `first` on: of one where it costs no
    /// page more, if need be.
    fn take_of(&self, first: SpanId) -> Option<Place> {
        let spans =
            core::iter::successors(Some(first), |&id| self.spans.get(id).next.load(Relaxed));
        let mut places = spans.take(LOOKS).filter_map(|id| self.take(id));
        places.next()
    }

    /// Gives an object of at least `len` bytes, 1 to 3072.
    pub fn alloc(&self, len: usize) -> Result<Place, NoObject> {
        let class = class::class_of(len);
        let why = match self.partial.0[class].load(Relaxed) {
            Some(first) => match self.take_of(first) {
                Some(place) => return Ok(place),
                None => NoObject::Full,
            },
            None => match self.new_span(class) {
                Some(id) => match self.take(id) {
                    Some(place) => return Ok(place),
                    None => {
                        self.retire(id);
                        NoObject::Full
                    }
                },
                None => NoObject::NoMemory,
            },
        };
        let larger = self.partial.0[class + 1..].iter();
        let mut larger = larger.filter_map(|list| self.take(list.load(Relaxed)?));
        larger.next().ok_or(why)
    }

    /// A span in the list of its class has no objects: it is none of the class any more.
    fn retire(&self, id: SpanId) {
        let span = self.spans.get(id);
        self.unlink(&self.partial.0[span.class()], id);
        if span.nr_pages.load(Relaxed) == 0 {
            self.link(&self.clean, id);
        } else {
            self.link(&self.dirty, id);
            self.nr_dirty.fetch_add(1, Relaxed);
        }
    }

    /// Takes an object back.
    pub fn free(&self, place: Place) {
        let span = self.spans.get(place.span);
        let index = usize::from(place.index);
        let bit = 1 << (index % 64);
        let used = span.used[index / 64].fetch_and(!bit, Relaxed);
        debug_assert!(used & bit != 0, "freed twice");
        let class = span.class();
        let before = span.nr_used.fetch_sub(1, Relaxed) as usize;
        if before == class::nr_objects(class) {
            self.link(&self.partial.0[class], place.span);
        }
        if before == 1 {
            self.retire(place.span);
        }
    }

    /// Takes a span without objects out, for its pages to be given back; see [`Self::put_back`].
    pub fn take_dirty(&self) -> Option<SpanId> {
        let id = self.pop(&self.dirty)?;
        self.nr_dirty.fetch_sub(1, Relaxed);
        Some(id)
    }

    /// Gives the pages of a span that was taken out back to the kernel; `false`: it takes none. The
    /// lock need not be held.
    pub fn discard(&self, id: SpanId) -> bool {
        let span = self.spans.get(id);
        let pages = span.nr_pages.load(Relaxed) as usize;
        // SAFETY: the span is mapped by this module, and has no object: `take_dirty` took it out
        // of the lists, so nobody has it but the caller.
        unsafe { mmap::discard(span.at.load(Relaxed), pages * PAGE) }
    }

    /// A span that was taken out is back; `is_clean`: without its pages.
    pub fn put_back(&self, id: SpanId, is_clean: bool) {
        let span = self.spans.get(id);
        if is_clean {
            let pages = span.nr_pages.swap(0, Relaxed);
            self.held.store(self.held() - u64::from(pages), Relaxed);
            self.link(&self.clean, id);
        } else {
            self.link(&self.dirty, id);
            self.nr_dirty.fetch_add(1, Relaxed);
        }
    }

    /// Where an object's memory is, and how many bytes it is.
    fn memory(&self, place: Place) -> (NonNull<u8>, usize) {
        let span = self.spans.get(place.span);
        let size = class::size_of_object(span.class());
        let at = span.at.load(Relaxed) + usize::from(place.index) * size;
        match NonNull::new(at as *mut u8) {
            Some(at) => (at, size),
            None => unreachable!("a span is mapped before it has objects"),
        }
    }

    /// Writes an object's first bytes.
    ///
    /// # Safety
    /// The object was given by `alloc`, and only the caller knows of it.
    pub unsafe fn write(&self, place: Place, bytes: &[u8]) {
        let (at, size) = self.memory(place);
        assert!(bytes.len() <= size);
        // SAFETY: the object's `size` bytes are mapped, and the caller's alone; `bytes` is memory
        // of its own.
        unsafe { at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// An object's first bytes.
    ///
    /// # Safety
    /// They were written, and are neither written nor freed while the answer is used.
    pub unsafe fn bytes(&self, place: Place, len: usize) -> &[u8] {
        let (at, size) = self.memory(place);
        assert!(len <= size);
        // SAFETY: the object's bytes are mapped and were written, and the caller has promised that
        // they stay as they are.
        unsafe { core::slice::from_raw_parts(at.as_ptr(), len) }
    }
}
