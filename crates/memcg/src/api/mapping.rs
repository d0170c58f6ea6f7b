//! Mappings: how a tenant uses a region.
//!
//! Invariants: whatever is touched is touched through a mapping, so who touches is known. A mapping
//! keeps its region.
//! Depends on: `engine::pages::touch`; `page_view` for reads without a pin.
//! Never: hands out a page that is not pinned, but to a closure that is run again if the page
//! changed meanwhile.

use super::page_error::PageError;
use super::page_guard::{PageMut, PageRef};
use super::page_view::PageView;
use super::region::{PAGE_SIZE, Region, at};
use crate::engine::Flags;
use crate::engine::pages::touch::{Patience, PinnedPage, Touch};
use crate::engine::process_engine::{engine, with_rec};
use crate::group::Tag;
use crate::page::file::ErrorCursor;
use crate::page::region::RegionKind;
use crate::page::word::Access;
use crate::page::{FrameId, InUse, Pages};
use crate::sync::id::Id;
use core::fmt;

/// Reads without a pin before one is taken.
const TRIES: usize = 4;

/// A region in use by a group or a task, until this is dropped. It can be shared by threads.
///
/// Pages are numbered from 0. A page is pinned while a guard on it lives: it stays where it is.
/// Many may have it pinned to read, or one to write; who comes meanwhile waits, 10 s at most. A
/// thread that would wait for itself gets an error at once. What is not pinned may leave memory at
/// any time, and comes back when it is touched.
///
/// Each call that brings a page may be refused, whatever the policy of the group that is full: the
/// error says who was full. It may wait for reclaim and for what the thread owes.
pub struct Mapping {
    used: InUse<'static>,
    pages: &'static Pages,
    /// As this user was last told of errors of write-back.
    errors: ErrorCursor,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        with_rec(|engine, rec| engine.close_mapping(rec, self.used.id));
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("region", &self.region())
            .finish_non_exhaustive()
    }
}

impl Mapping {
    pub(super) fn new(region: &Region, tag: Tag) -> Result<Self, PageError> {
        let id = at(|engine, rec| engine.open_mapping(rec, region.id(), tag))?;
        let pages = &engine().pages;
        let errors = ErrorCursor::default();
        if let Some(file) = pages.region(region.id()).file() {
            pages.files.errors(file).begin(&errors);
        }
        Ok(Self {
            used: pages.in_use(id),
            pages,
            errors,
        })
    }

    /// A handle on the region.
    #[must_use]
    pub fn region(&self) -> Region {
        Region::of_ref(self.used.mapping.region())
    }

    /// The region's length, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.used.region.len()
    }

    /// Whether the region is 0 bytes long.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what is dirty of a file's region to the file, whoever has written it, and has the
    /// device keep it; of memory nothing is to be done. See
    /// [`PageCache::sync`](super::PageCache::sync).
    ///
    /// # Errors
    /// [`PageError::Io`]: of this or of an earlier write-back, once to each mapping and to each
    /// [`PageCache`](super::PageCache). [`PageError::Busy`], [`PageError::Deadlock`]: a page stays
    /// pinned to write. [`PageError::ParentProcess`].
    pub fn sync(&self) -> Result<(), PageError> {
        let id = self.used.mapping.region();
        at(|engine, rec| engine.sync_region(rec, id, &self.errors))
    }

    /// Pins a page to read it; others may read it too.
    ///
    /// Cost, of a page in memory: one compare and swap here and one atomic instruction when the
    /// guard is dropped.
    ///
    /// # Errors
    /// See [`PageError`].
    #[inline]
    pub fn pin(&self, page: u64) -> Result<PageRef<'_>, PageError> {
        self.touch(page, Access::Read, Patience::Wait, false)
            .map(|pinned| PageRef::new(self, pinned))
    }

    /// Pins a page to read and write it, alone.
    ///
    /// # Errors
    /// See [`PageError`].
    #[inline]
    pub fn pin_mut(&self, page: u64) -> Result<PageMut<'_>, PageError> {
        self.touch(page, Access::Write, Patience::Wait, false)
            .map(|pinned| PageMut::new(self, pinned))
    }

    /// As [`Self::pin`], without waiting for anybody. A page that has to be read from a file is
    /// read.
    ///
    /// # Errors
    /// [`PageError::Busy`] where [`Self::pin`] would wait; see [`PageError`] for others.
    pub fn try_pin(&self, page: u64) -> Result<PageRef<'_>, PageError> {
        self.touch(page, Access::Read, Patience::Now, false)
            .map(|pinned| PageRef::new(self, pinned))
    }

    /// As [`Self::pin_mut`], without waiting for anybody. A page that has to be read from a file is
    /// read.
    ///
    /// # Errors
    /// [`PageError::Busy`] where [`Self::pin_mut`] would wait; see [`PageError`] for others.
    pub fn try_pin_mut(&self, page: u64) -> Result<PageMut<'_>, PageError> {
        self.touch(page, Access::Write, Patience::Now, false)
            .map(|pinned| PageMut::new(self, pinned))
    }

    #[inline]
    fn touch(
        &self,
        index: u64,
        access: Access,
        patience: Patience,
        overwrites: bool,
    ) -> Result<PinnedPage<'static>, PageError> {
        let hit = with_rec(|engine, rec| engine.pin_hit(rec, self.used, index, access));
        match hit.flatten() {
            Some(pinned) => Ok(pinned),
            None => self.touch_slow(Touch {
                index,
                access,
                patience,
                overwrites,
                flags: Flags::NOWAIT,
            }),
        }
    }

    #[cold]
    pub(super) fn touch_slow(&self, touch: Touch) -> Result<PinnedPage<'static>, PageError> {
        at(|engine, rec| engine.pin_page(rec, self.used, touch))
    }

    /// Reads a page without pinning it: `f` gets a view that only copies out. If the page was
    /// written or left memory meanwhile, `f` is run again, so what it read counts only when this
    /// returns. After some runs in vain the page is pinned.
    ///
    /// A page of memory that was never written reads as zeros, and charges nobody.
    ///
    /// Cost, of a page in memory: some loads; while it was used fewer than three times since it
    /// came or reclaim looked at it, a compare and swap.
    ///
    /// ```
    /// let tenant = memcg::root().create("optimist").unwrap();
    /// let table = tenant.map_anon(1 << 20).unwrap();
    /// table.write_at(3 * 4096 + 8, &77u64.to_ne_bytes()).unwrap();
    /// assert_eq!(table.read_with(3, |page| page.load::<u64>(8)).unwrap(), 77);
    /// ```
    ///
    /// # Errors
    /// See [`PageError`].
    ///
    /// # Panics
    /// If `f` does. What it reads may be of two states of the page, if it is run again afterwards:
    /// `f` must not trust what it reads so far as to panic over it.
    #[inline]
    pub fn read_with<R>(
        &self,
        page: u64,
        mut f: impl FnMut(PageView<'_>) -> R,
    ) -> Result<R, PageError> {
        for _ in 0..TRIES {
            match self.try_read(page, &mut f) {
                Some(Some(answer)) => return Ok(answer),
                Some(None) => {}
                None => break,
            }
        }
        self.read_pinned(page, f)
    }

    /// `None`: the page is in no frame, or there is none. `Some(None)`: it changed meanwhile.
    #[inline(always)]
    fn try_read<R>(&self, index: u64, f: &mut impl FnMut(PageView<'_>) -> R) -> Option<Option<R>> {
        let pages = self.pages;
        if !pages.are_mine() || index >= self.used.region.nr_all() {
            return None;
        }
        let (leaf, at) = self.used.region.leaf(index)?;
        let page = leaf.page(at);
        let seen = page.word.read();
        let frame = FrameId::from_raw(seen.readable()?)?;
        // SAFETY: the frame's memory is mapped for ever. What is in it may change while it is read:
        // a view reads by volatile loads of integers, and what they gave counts only if the word
        // says afterwards that the frame was this page's all the time and nobody wrote to it.
        let view = unsafe { PageView::racy(pages.frames.memory(frame)) };
        let answer = f(view);
        if !seen.is_same_content(page.word.read_again()) {
            return Some(None);
        }
        page.word.note_use(seen);
        self.used.mapping.note_use(pages.clock());
        Some(Some(answer))
    }

    #[cold]
    fn read_pinned<R>(
        &self,
        page: u64,
        mut f: impl FnMut(PageView<'_>) -> R,
    ) -> Result<R, PageError> {
        if self.is_hole(page)? {
            return Ok(f(PageView::of(&[0; PAGE_SIZE])));
        }
        let pinned = self.pin(page)?;
        Ok(f(PageView::of(&pinned)))
    }

    /// Whether a page has no content, so that it reads as zeros: never one of a file.
    pub(super) fn is_hole(&self, index: u64) -> Result<bool, PageError> {
        let region = self.used.region;
        if !self.pages.are_mine() {
            return Err(PageError::ParentProcess);
        }
        if index >= region.nr_all() {
            return Err(PageError::OutOfRange);
        }
        let is_memory = match region.kind() {
            RegionKind::Anon | RegionKind::Shmem => true,
            RegionKind::File => false,
        };
        let is_absent = || match region.leaf(index) {
            None => true,
            Some((leaf, at)) => leaf.page(at).word.read().is_absent(),
        };
        Ok(is_memory && is_absent())
    }

    pub(super) fn used(&self) -> InUse<'static> {
        self.used
    }

    /// Whether all of a range of bytes is within the region.
    pub(super) fn check_range(&self, offset: u64, len: usize) -> Result<(), PageError> {
        let end = offset.checked_add(len as u64);
        match end {
            Some(end) if end <= self.len() => Ok(()),
            Some(_) | None => Err(PageError::OutOfRange),
        }
    }

    /// Reads a part of a page, if it is in memory and nobody writes to it, or has no content.
    pub(super) fn try_read_part(
        &self,
        page: u64,
        within: usize,
        part: &mut [u8],
    ) -> Result<bool, PageError> {
        for _ in 0..TRIES {
            match self.try_read(page, &mut |view: PageView<'_>| view.copy_to(within, part)) {
                Some(Some(())) => return Ok(true),
                Some(None) => {}
                None => break,
            }
        }
        let is_hole = self.is_hole(page)?;
        if is_hole {
            part.fill(0);
        }
        Ok(is_hole)
    }

    /// Runs `f` on each piece of a range of bytes: the page, where the piece begins in it, and
    /// which part of the whole it is.
    fn each_piece(
        &self,
        offset: u64,
        len: usize,
        mut f: impl FnMut(u64, usize, core::ops::Range<usize>) -> Result<(), PageError>,
    ) -> Result<(), PageError> {
        self.check_range(offset, len)?;
        let mut done = 0;
        while done < len {
            let here = offset + done as u64;
            let within = (here % PAGE_SIZE as u64) as usize;
            let piece = (PAGE_SIZE - within).min(len - done);
            f(here / PAGE_SIZE as u64, within, done..done + piece)?;
            done += piece;
        }
        Ok(())
    }

    /// Reads bytes, page by page; each page is read whole, not all of them together. Memory that
    /// was never written reads as zeros, and charges nobody.
    ///
    /// # Errors
    /// [`PageError::OutOfRange`] if not all of it is within the region. Else as [`Self::pin`]:
    /// pages before the one that failed are in `into`.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), PageError> {
        self.each_piece(offset, into.len(), |page, within, part| {
            self.read_with(page, |view| view.copy_to(within, &mut into[part.clone()]))
        })
    }

    /// Writes bytes, page by page.
    ///
    /// # Errors
    /// [`PageError::OutOfRange`] if not all of it is within the region; nothing is written then.
    /// Else as [`Self::pin_mut`]: pages before the one that failed are written.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), PageError> {
        self.each_piece(offset, from.len(), |page, within, part| {
            let is_whole = part.len() == PAGE_SIZE;
            let pinned = self.touch(page, Access::Write, Patience::Wait, is_whole)?;
            PageMut::new(self, pinned)[within..within + part.len()].copy_from_slice(&from[part]);
            Ok(())
        })
    }

    /// Pins whole pages to read them, for I/O from them.
    ///
    /// # Errors
    /// As [`Self::pin`]; nothing stays pinned then.
    pub fn pin_range(&self, pages: core::ops::Range<u64>) -> Result<Vec<PageRef<'_>>, PageError> {
        pages.map(|page| self.pin(page)).collect()
    }

    /// Pins whole pages to read and write them, for I/O into them.
    ///
    /// # Errors
    /// As [`Self::pin_mut`]; nothing stays pinned then.
    pub fn pin_range_mut(
        &self,
        pages: core::ops::Range<u64>,
    ) -> Result<Vec<PageMut<'_>>, PageError> {
        pages.map(|page| self.pin_mut(page)).collect()
    }
}
