//! Guards of pages.
//!
//! Invariants: while a guard lives its page stays in its frame, and nobody writes to what another
//! reads.
//! Depends on: `engine::pages::touch` for the pin.
//! Never: leaves its thread: the thread's list has the pin.

use crate::engine::pages::touch::PinnedPage;
use crate::engine::process_engine::{engine, with_rec};
use crate::page::PAGE;
use crate::page::word::Access;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// What the two guards have in common.
struct Pin<'m> {
    pinned: PinnedPage<'static>,
    access: Access,
    memory: NonNull<[u8; PAGE]>,
    /// Keeps the mapping; stays on its thread.
    _mapping: PhantomData<(&'m (), *const ())>,
}

impl Pin<'_> {
    #[inline]
    fn new(pinned: PinnedPage<'static>, access: Access) -> Self {
        Self {
            pinned,
            access,
            memory: engine().pages.frames.memory(pinned.frame),
            _mapping: PhantomData,
        }
    }
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        with_rec(|engine, rec| engine.unpin_page(rec, self.pinned, self.access));
    }
}

/// A page that is pinned to be read: `&[u8; 4096]`. Others may read it meanwhile, nobody writes.
///
/// It stays on its thread, and keeps its mapping. It is meant to be short-lived: who wants to write
/// the page waits. One that is leaked (`mem::forget`) keeps the page where it is for ever.
pub struct PageRef<'m>(Pin<'m>);

/// A page that is pinned to be written: `&mut [u8; 4096]`. Nobody else has it meanwhile.
///
/// As [`PageRef`], it stays on its thread and is meant to be short-lived.
pub struct PageMut<'m>(Pin<'m>);

impl<'m> PageRef<'m> {
    #[inline]
    pub(super) fn new(_mapping: &'m impl Sized, pinned: PinnedPage<'static>) -> Self {
        Self(Pin::new(pinned, Access::Read))
    }
}

impl<'m> PageMut<'m> {
    #[inline]
    pub(super) fn new(_mapping: &'m impl Sized, pinned: PinnedPage<'static>) -> Self {
        Self(Pin::new(pinned, Access::Write))
    }
}

impl Deref for PageRef<'_> {
    type Target = [u8; PAGE];

    #[inline]
    fn deref(&self) -> &[u8; PAGE] {
        // SAFETY: the frame is mapped for ever, and is this page's while it is pinned. With a
        // reader's pin nobody has it to write, so what is in it does not change.
        unsafe { self.0.memory.as_ref() }
    }
}

impl Deref for PageMut<'_> {
    type Target = [u8; PAGE];

    #[inline]
    fn deref(&self) -> &[u8; PAGE] {
        // SAFETY: the frame is mapped for ever, and with the writer's pin it is this guard's alone;
        // who reads without a pin does so by volatile loads and finds the writer in the word.
        unsafe { self.0.memory.as_ref() }
    }
}

impl DerefMut for PageMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8; PAGE] {
        // SAFETY: as in `deref`; the guard is borrowed mutably for as long.
        unsafe { self.0.memory.as_mut() }
    }
}

impl AsRef<[u8]> for PageRef<'_> {
    fn as_ref(&self) -> &[u8] {
        &**self
    }
}

impl AsRef<[u8]> for PageMut<'_> {
    fn as_ref(&self) -> &[u8] {
        &**self
    }
}

impl AsMut<[u8]> for PageMut<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut **self
    }
}

impl fmt::Debug for PageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRef").finish_non_exhaustive()
    }
}

impl fmt::Debug for PageMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageMut").finish_non_exhaustive()
    }
}
