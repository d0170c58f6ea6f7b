//! Pages that follow each other in a file, pinned to be written together.
//!
//! Invariants: each page of a run is pinned to read and under write-back, from its taking to its
//! finish. A run that is dropped has none.
//! Depends on: `word` for the pins; `frame` for the content.
//! Never: I/O; a count.

use super::frame::Frames;
use super::id::{FrameId, PageId};
use super::leaf::Page;
use super::word::{Reading, Wake};
use crate::sync::id::Id;
use std::io::IoSlice;

/// The most pages of one: 256 KiB.
pub const RUN: usize = 64;

#[derive(Clone, Copy)]
struct Taken<'p> {
    id: PageId,
    page: &'p Page,
    frame: FrameId,
}

/// See the module.
pub struct Run<'p> {
    frames: &'p Frames,
    first: u64,
    nr: usize,
    pages: [Option<Taken<'p>>; RUN],
}

impl<'p> Run<'p> {
    /// An empty one.
    pub fn new(frames: &'p Frames) -> Self {
        Self {
            frames,
            first: 0,
            nr: 0,
            pages: [None; RUN],
        }
    }

    /// The number of its first page in its region.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Whether it has no pages.
    pub fn is_empty(&self) -> bool {
        self.nr == 0
    }

    /// Whether a page comes right after the others, and there is room.
    pub fn takes(&self, index: u64) -> bool {
        self.nr == 0 || self.nr < RUN && index == self.first + self.nr as u64
    }

    /// Takes a page that is dirty, if it is as it was `seen`, nobody is at it, and it
    /// [follows](Self::takes).
    pub fn try_take(&mut self, index: u64, id: PageId, page: &'p Page, seen: Reading) -> bool {
        if !self.takes(index) {
            return false;
        }
        let Some(place) = self.pages.get_mut(self.nr) else {
            return false;
        };
        let Some(frame) = page.word.try_pin_for_writeback(seen) else {
            return false;
        };
        let Some(frame) = FrameId::from_raw(frame) else {
            return false;
        };
        if self.nr == 0 {
            self.first = index;
        }
        *place = Some(Taken { id, page, frame });
        self.nr += 1;
        true
    }

    /// Runs `f` with the content of its pages, in turn.
    pub fn with_content<R>(&self, f: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); RUN];
        for (slice, taken) in slices.iter_mut().zip(self.pages.iter().flatten()) {
            // SAFETY: `try_take` has pinned the page to read, and `finish`, which lets go of it,
            // borrows the run mutably: not while the slices are there.
            *slice = IoSlice::new(unsafe { self.frames.pinned(taken.frame) });
        }
        f(&slices[..self.nr])
    }

    /// Empties the run: `failed` says of each page, by its place, whether it was not written and is
    /// dirty again; `then` is told before it is let go, `wake` after.
    pub fn finish(
        &mut self,
        failed: impl Fn(usize) -> bool,
        mut then: impl FnMut(&Page, bool),
        mut wake: impl FnMut(PageId, Wake),
    ) {
        for (nr, place) in self.pages.iter_mut().enumerate() {
            let Some(taken) = place.take() else { break };
            let failed = failed(nr);
            taken.page.word.end_writeback(failed);
            then(taken.page, failed);
            wake(taken.id, taken.page.word.unpin_read());
        }
        self.nr = 0;
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Only by a panic: what was not written is dirty.
        self.finish(|_| true, |_, _| {}, |_, _| {});
    }
}
